"""Ask the packaged expert one page; its JSON is the only line on stdout."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.ask")
