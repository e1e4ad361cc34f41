"""Invented shops, products and pages: data to try every stage on, the same for a same seed."""
