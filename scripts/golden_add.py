"""Add hand-made questions with their answers to a sem's golden set."""

from _run import run_job

if __name__ == "__main__":
    run_job("golden.add")
