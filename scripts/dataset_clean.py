"""Simplify pages, check references, drop duplicates: the store becomes clean.jsonl."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.clean")
