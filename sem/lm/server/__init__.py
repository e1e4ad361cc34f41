"""An HTTP server in front of a model: who may ask, how much waits, how it ends."""
