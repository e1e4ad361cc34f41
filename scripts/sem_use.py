"""Make a project the current one: jobs and scripts work on it without --sem."""

from _run import run_job

if __name__ == "__main__":
    run_job("sem.use")
