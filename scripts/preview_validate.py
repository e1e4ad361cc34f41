"""Check a strict (ZK) document against its schema and its hashes; exit 0 or 1."""

from _run import run_job

if __name__ == "__main__":
    run_job("preview.validate")
