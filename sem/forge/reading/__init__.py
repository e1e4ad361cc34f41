"""Inside the sandbox: one module for each format, each of which gets a stranger's bytes."""
