"""Compare two snapshots by row and by slot; write down that the difference is wanted."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.diff")
