"""Compare the trained network with its untouched base on held-out families, with intervals."""

from _run import run_job

if __name__ == "__main__":
    run_job("optimizer.eval")
