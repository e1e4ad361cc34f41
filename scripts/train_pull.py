"""Fetch a run that was trained on a host, every file checked by its hash."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.pull")
