"""Say how many rows and domains to label before a claim can be shown."""

from _run import run_job

if __name__ == "__main__":
    run_job("eval.plan")
