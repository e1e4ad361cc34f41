"""A page, line by line: parsed, walked, written, ranked and pruned."""
