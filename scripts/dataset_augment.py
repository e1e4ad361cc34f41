"""Write variants of the training rows whose answers stay the same, or wrong answers as pairs."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.augment")
