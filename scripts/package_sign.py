"""Sign every file of a package that verifies, with a private key and offline."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.sign")
