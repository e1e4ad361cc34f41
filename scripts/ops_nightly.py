"""Let the promoted run answer again, compare it with its record, and alert if it got worse."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.nightly")
