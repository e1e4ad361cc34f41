"""Create a project: settings with every default visible, folders for its data and models."""

from _run import run_job

if __name__ == "__main__":
    run_job("sem.new")
