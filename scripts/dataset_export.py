"""Write one part of a snapshot in a form that other trainers read."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.export")
