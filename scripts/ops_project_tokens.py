"""Project daily tokens against the budget; exit 1 past the alert threshold."""

from _run import run_job

if __name__ == "__main__":
    run_job("ops.project_tokens")
