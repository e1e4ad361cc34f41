"""Continue a run from its last complete checkpoint, with what may soundly change changed."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.resume")
