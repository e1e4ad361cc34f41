"""Show every project, and which one is current."""

from _run import run_job

if __name__ == "__main__":
    run_job("sem.list")
