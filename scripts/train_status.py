"""Show the runs of a sem on a host: running, done, failed, killed, cancelled or lost."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.status")
