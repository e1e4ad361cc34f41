"""What was asked to go: found, erased, kept out, and looked for again."""
