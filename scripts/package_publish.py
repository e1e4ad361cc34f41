"""Publish a package that verifies and passed its gate: to a folder, a bucket, or the hub."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.publish")
