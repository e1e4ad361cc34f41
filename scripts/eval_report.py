"""Score a run against the baseline on the same examples and say what is shown."""

from _run import run_job

if __name__ == "__main__":
    run_job("eval.report")
