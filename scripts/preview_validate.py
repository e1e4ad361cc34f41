"""Is a file a ZK document, and does it hold what it says? Exit 0 or 1.

    python scripts/preview_validate.py proof.json --zk-check --output-hash

Reads   the document
Writes  stdout; exit 0 when it holds, 1 when it does not
"""

from sem.core import console
from sem.preview.result.validate import main

if __name__ == "__main__":
    console.run(main)
