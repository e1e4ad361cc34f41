"""Answers, scores, statistics and the report."""
