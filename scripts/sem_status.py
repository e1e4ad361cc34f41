"""Show what a project has, and the next command to type."""

from _run import run_job

if __name__ == "__main__":
    run_job("sem.status")
