"""Serve the prompt optimizer on http://127.0.0.1:8000.

    python src/start_lora_api.py

The same as `fab optimizer.serve`; the flags are its own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console
from sem.jobs import load_jobs


def main() -> None:
    console.print_note("src/start_lora_api.py is `fab optimizer.serve`")
    load_jobs()["optimizer.serve"].call()


if __name__ == "__main__":
    console.run_main(main)
