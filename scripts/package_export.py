"""Merge the adapter and write a self-describing package."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.export")
