"""Show two or more runs side by side: recipe, data, losses, speed, what is not comparable."""

from _run import run_job

if __name__ == "__main__":
    run_job("train.compare")
