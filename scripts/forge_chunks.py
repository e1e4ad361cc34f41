"""Show what the documents of a sem become: chunks, coverage, skips; nobody is asked."""

from _run import run_job

if __name__ == "__main__":
    run_job("forge.chunks")
