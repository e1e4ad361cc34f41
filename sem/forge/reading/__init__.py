"""Inside the cage: one module for each format, each of which gets a stranger's bytes."""
