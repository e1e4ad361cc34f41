"""Estimate what a file of rows is worth, in minutes, on this machine, with no network."""

from _run import run_job

if __name__ == "__main__":
    run_job("preview.run")
