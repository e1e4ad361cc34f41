"""Rewrite vague prompts with the trained network, and say how likely each is useful."""

from _run import run_job

if __name__ == "__main__":
    run_job("optimizer.rewrite")
