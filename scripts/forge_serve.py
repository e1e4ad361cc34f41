"""Serve a small model on this machine as the teacher: free, offline, no key."""

from _run import run_job

if __name__ == "__main__":
    run_job("forge.serve")
