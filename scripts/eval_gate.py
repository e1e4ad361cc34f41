"""Decide whether a run may replace the baseline: PASS, FAIL, INSUFFICIENT (exit 0, 1, 3)."""

from _run import run_job

if __name__ == "__main__":
    run_job("eval.gate")
