"""Check that a package is what it says it is, and answers as the run that was proven."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.verify")
