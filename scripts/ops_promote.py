"""Name the run that serves: nightly watches it and later runs are compared with it."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.promote")
