"""Answer a file of pages, row by row."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.predict")
