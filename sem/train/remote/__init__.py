"""Training on a host over SSH: what is sent, started, watched and fetched."""
