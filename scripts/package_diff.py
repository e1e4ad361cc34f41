"""Show what differs between two packages, what a person asks first at the top."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.diff")
