"""Try points of the recipe's space, each with every seed, and show which is best on val."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.sweep")
