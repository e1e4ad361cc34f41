"""hokusai-preview: what a file of rows is worth, in minutes, on this machine, with no network.

    python scripts/preview_run.py --data-path mine.parquet

Reads   the file that --data-path names; configs/SEM/preview.yaml with --sem
Writes  stdout; the files that --output-file and --zk name
"""

from sem.core import console
from sem.preview.command import main

if __name__ == "__main__":
    console.run(main)
