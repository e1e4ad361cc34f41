"""What a file of rows is worth: the older name of `hokusai-preview`, with its flags.

python src/hokusai_preview.py --data-path mine.csv
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console
from sem.jobs import run_job

if __name__ == "__main__":
    console.print_note("src/hokusai_preview.py is `hokusai-preview`")
    run_job("preview.run")
