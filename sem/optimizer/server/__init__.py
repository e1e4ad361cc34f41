"""The HTTP service of the prompt optimizer, and its page."""
