"""`python -m sem.preview` is `hokusai-preview`."""

from sem.jobs import run_job


def entry() -> None:
    """Run the console command `hokusai-preview`."""
    run_job("preview.run", program="hokusai-preview")


if __name__ == "__main__":
    entry()
