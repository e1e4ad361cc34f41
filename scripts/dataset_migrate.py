"""Bring the store and its references to the version that configs/SEM/migrations end at."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.migrate")
