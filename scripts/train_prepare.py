"""Resolve everything the next run will use, check it, and write it down as run.json."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.prepare")
