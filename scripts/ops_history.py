"""Show which run served from when on, who promoted it, and why."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.history")
