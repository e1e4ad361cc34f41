"""Projects side by side: made, filled, looked at, deleted."""
