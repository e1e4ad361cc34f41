"""Contracts every stage shares: errors, files, settings, schemas, examples, runs."""
