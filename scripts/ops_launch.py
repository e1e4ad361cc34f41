"""Train a prepared run on a rented GPU through SkyPilot; without --yes nothing is rented."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.launch")
