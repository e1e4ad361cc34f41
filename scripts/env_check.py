"""Show versions, hardware and what is missing; exit 1 when packages are not as locked."""

from _run import run_job

if __name__ == "__main__":
    run_job("env.check")
