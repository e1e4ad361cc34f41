"""A package that answers: a page in, a checked JSON value out."""
