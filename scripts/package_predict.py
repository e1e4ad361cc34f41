"""Answer a file of pages, row by row; run again, it goes on where it stopped."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.predict")
