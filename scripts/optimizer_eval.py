"""Compare the trained network with its untouched base on held-out families, with intervals.

    python scripts/optimizer_eval.py
    python scripts/optimizer_eval.py --rows 60 --pairs pairs.jsonl

FILE of --pairs: JSON lines with `id` and `vague` (or `raw_prompt`, `input`); they are only ever
evaluated on. `fab env.weights all-minilm-l6-v2` brings the model that measures intent.

Reads   models/optimizer/RUN/, data/optimizer/test.json, FILE
Writes  reports/optimizer/RUN/{report.md,rewrites.jsonl,scores.json}
"""

import argparse
from pathlib import Path

from sem.core import console, projects


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    from sem.optimizer import rewriter, trial

    root = projects.tree()
    folder = rewriter.find(root, args.name)
    made = trial.run(root, folder, trial.Wanted(args.rows, args.pairs, args.seed))
    for title, columns, rows in made.tables:
        console.table(title, columns, rows)
    console.done(made.page)


def parser() -> argparse.ArgumentParser:
    """The flags of this script."""
    made = console.parser(__doc__)
    made.add_argument("--name", help="a run (default: the promoted, else the newest)")
    made.add_argument("--rows", type=int, default=120, help="prompts of a set (default: 120)")
    made.add_argument("--pairs", type=Path, metavar="FILE", help="real prompts, to look at only")
    made.add_argument("--seed", type=int, default=42, help="of which prompts (default: 42)")
    return made


if __name__ == "__main__":
    console.run(main)
