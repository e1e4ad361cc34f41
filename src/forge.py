"""Make examples of the current project's documents.

    python src/forge.py

The same as `opensem-cli run-forge` and `fab forge.run`; the flags are theirs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console
from sem.jobs import verbs


def main() -> None:
    console.print_note("src/forge.py is `fab forge.run`, and `opensem-cli run-forge`")
    verbs.run_verb(["run-forge", *sys.argv[1:]])


if __name__ == "__main__":
    console.run_main(main)
