"""Show rows as the model will see them, with what is learnt in colour."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.show")
