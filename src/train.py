"""Fine-tune the current project's model.

    python src/train.py

The same as `opensem-cli train` and `fab train.prepare train.run`; the flags are theirs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console
from sem.jobs import verbs


def main() -> None:
    console.print_note("src/train.py is `fab train.prepare train.run`, and `opensem-cli train`")
    verbs.run_verb(["train", *sys.argv[1:]])


if __name__ == "__main__":
    console.run_main(main)
