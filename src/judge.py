"""Score the current project's untouched model, or its fine-tuned one against it.

    python src/judge.py --mode baseline
    python src/judge.py --mode fine-tuned

The same as `opensem-cli baseline` and `opensem-cli eval`; further flags are theirs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console
from sem.jobs import verbs

VERBS = {"baseline": "baseline", "fine-tuned": "eval"}


def main() -> None:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("--mode", choices=VERBS, required=True)
    args, rest = parser.parse_known_args()
    console.print_note(f"src/judge.py --mode {args.mode} is `opensem-cli {VERBS[args.mode]}`, and")
    console.print_note("`fab eval.generate`, with `fab eval.report` for the comparison")
    verbs.run_verb([VERBS[args.mode], *rest])


if __name__ == "__main__":
    console.run_main(main)
