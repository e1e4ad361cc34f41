"""A small network that rewrites vague prompts: its data, training, evaluation and serving."""
