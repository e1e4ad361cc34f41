"""Run ops.nightly from cron: every hour, so that a missed night is caught up."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.install_cron")
