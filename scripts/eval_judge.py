"""Have a judge model decide what rules cannot: free texts, and failures marked arguable."""

from _run import run_job

if __name__ == "__main__":
    run_job("eval.judge")
