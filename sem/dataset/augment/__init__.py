"""Edits of a page that keep the answer, and answers that are wrong on purpose."""
