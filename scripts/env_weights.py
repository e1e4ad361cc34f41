"""Fetch base weights once, check them and convert them to safetensors."""

from _run import run_job

if __name__ == "__main__":
    run_job("env.weights")
