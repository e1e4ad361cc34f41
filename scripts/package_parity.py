"""Ask the package in each runtime, and compare with what was proven."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.parity")
