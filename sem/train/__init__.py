"""One recipe, fine-tuned by the engine that fits the machine."""
