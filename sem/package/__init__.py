"""Merge, bundle and verify the deliverable."""
