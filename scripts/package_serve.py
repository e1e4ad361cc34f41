"""Serve the packaged expert: an HTTP API and a page, until Ctrl-C or SIGTERM."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.serve")
