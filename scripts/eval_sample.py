"""Pick slots for a person to check, as a sheet; take the filled-in sheet back."""

from _run import run_job

if __name__ == "__main__":
    run_job("eval.sample")
