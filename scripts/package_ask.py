"""Ask the packaged expert one page."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.ask")
