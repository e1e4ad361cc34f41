"""Write the demo store: invented shop pages and their references, the same for a same seed."""

from _run import run_job

if __name__ == "__main__":
    run_job("demo.data")
