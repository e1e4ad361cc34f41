"""Let the run that served before serve again, and write down who wanted it, when and why."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.rollback")
