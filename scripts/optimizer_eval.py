"""Compare the trained network with its untouched base on held-out families, with intervals.

    python scripts/optimizer_eval.py
    python scripts/optimizer_eval.py --rows 60 --pairs pairs.jsonl
    python scripts/optimizer_eval.py --questions golden_set.json --answer-with local --judge

FILE of --pairs: JSON lines with `id` and `vague` (or `raw_prompt`, `input`); they are only ever
evaluated on. FILE of --questions: JSON lines, or a golden set (.json), of a prompt and its answer;
a model answers them as they are and as rewritten. --judge sends prompts, rewrites and answers to
the models of configs/judge.yaml. `fab env.weights all-minilm-l6-v2` brings the model that
measures closeness.

Reads   models/optimizer/RUN/, data/optimizer/test.json, FILE, configs/judge.yaml
Writes  reports/optimizer/RUN/{report.md,rewrites.jsonl,answers.jsonl,scores.json}
"""

import argparse
from pathlib import Path

from sem.core import console, projects, provenance

MODEL = (
    "weights (a name, pip:…, a folder, org/name@COMMIT), `local` (fab forge.serve), "
    "provider/model@http://HOST:PORT/v1, or provider/model (default: smollm2-135m-instruct)"
)


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    from sem.optimizer.eval import trial
    from sem.optimizer.model import rewriter

    root = projects.tree()
    wanted = trial.Wanted(
        args.rows, args.pairs, args.seed, args.questions, args.answer_with, args.judge
    )
    made = trial.run(root, rewriter.find(root, args.name), wanted, provenance.now())
    for title, columns, rows in made.tables:
        console.table(title, columns, rows)
    console.done(made.page)
    if made.stopped:
        raise made.stopped


def parser() -> argparse.ArgumentParser:
    """The flags of this script."""
    made = console.parser(__doc__)
    made.add_argument("--name", help="a run (default: the promoted, else the newest)")
    made.add_argument("--rows", type=int, default=120, help="prompts of a set (default: 120)")
    made.add_argument("--pairs", type=Path, metavar="FILE", help="real prompts, to look at only")
    made.add_argument("--questions", type=Path, metavar="FILE", help="prompts and their answers")
    made.add_argument("--answer-with", metavar="MODEL", help=MODEL)
    made.add_argument("--judge", action="store_true", help="ask the model of configs/judge.yaml")
    made.add_argument("--seed", type=int, default=42, help="of which prompts (default: 42)")
    return made


if __name__ == "__main__":
    console.run(main)
