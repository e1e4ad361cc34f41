"""Documents, pages, tables and images in; checked examples with their provenance out."""
