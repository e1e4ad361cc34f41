"""Make question and answer pairs of a sem's sources with a teacher, sift, clean and cut them."""

from _run import run_job

if __name__ == "__main__":
    run_job("forge.run")
