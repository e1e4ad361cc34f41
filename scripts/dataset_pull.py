"""Fetch examples from another machine (or path), whole or not at all, into the store."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.pull")
