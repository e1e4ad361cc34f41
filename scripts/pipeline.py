"""Run the whole path: from raw examples to a proven, verified package."""

from _run import run_job

if __name__ == "__main__":
    run_job("pipeline")
