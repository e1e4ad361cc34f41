"""Erase rows everywhere, keep them out for good, and block what was made from them."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.takedown")
