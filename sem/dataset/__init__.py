"""From a store of raw examples to frozen snapshots."""
