"""End a run that trains on a host: TERM, half a minute to write a checkpoint, then KILL."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.cancel")
