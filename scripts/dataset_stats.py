"""Describe a snapshot: tokens by the base model's tokenizer, slots, grounding, strata, leaks."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.stats")
