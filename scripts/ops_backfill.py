"""Bring the rows that a schema, prompt or cleaner change touches up to date, resumably."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.backfill")
