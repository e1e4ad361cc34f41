"""Follow a run that trains on a host, from where the last look ended, to its exit code."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.attach")
