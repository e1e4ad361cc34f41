"""Run the main path on the embedded data: baseline against tuned."""

from _run import run_job

if __name__ == "__main__":
    run_job("demo.run")
