"""Let the teacher answer the golden questions before it writes any (exit 0 go, 1 no-go)."""

from _run import run_job

if __name__ == "__main__":
    run_job("forge.teacher")
