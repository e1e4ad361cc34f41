"""Answer a split with a run's model; `base` is the untouched one."""

from _run import run_job

if __name__ == "__main__":
    run_job("eval.generate")
