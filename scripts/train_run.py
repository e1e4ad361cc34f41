"""Fine-tune a prepared run; a function of its run.json."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.run")
