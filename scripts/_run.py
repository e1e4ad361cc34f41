"""What every script here is: the job of its own name, of the checkout that it lies in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.jobs import run_job

__all__ = ["run_job"]
