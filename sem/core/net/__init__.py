"""How other machines are reached: over SSH, and on the hub."""
