"""Delete one project: its settings, data, models and reports; asks before it does."""

from _run import run_job

if __name__ == "__main__":
    run_job("sem.delete")
