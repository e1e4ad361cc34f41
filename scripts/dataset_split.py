"""Cut train, val and test, whole domains apart, and freeze them as the next snapshot."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.split")
