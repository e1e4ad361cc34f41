"""Fetch a published package; it takes its name once every file is right and it verifies."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.fetch")
