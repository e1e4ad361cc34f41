"""A package signed, published to a place, and fetched back."""
