"""Write variants of the training rows whose answers stay the same, or wrong answers as pairs.

    python scripts/dataset_augment.py --sem shop
    python scripts/dataset_augment.py --sem shop --negatives 2

Reads   data/SEM/processed/train.vN.jsonl, data/SEM/raw/dataset.duckdb, configs/SEM/dataset.yaml
Writes  data/SEM/processed/augmented.vN.jsonl and .json, or preferences.vN.jsonl and .json
"""

from datetime import UTC, datetime

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "snapshot", "set")
    parser.add_argument("--each", type=int, default=2, help="variants of a row (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of every choice (default: 0)")
    parser.add_argument(
        "--kind", action="append", default=[], help="only this kind of variant (repeatable)"
    )
    parser.add_argument(
        "--negatives", type=int, default=0, metavar="N", help="write N wrong answers of each row"
    )
    args = parser.parse_args(argv)

    from sem.dataset.augment import augment, negatives, page_edits
    from sem.dataset.config import Dataset

    project = Project.load(args.sem, args.set)
    if args.negatives:
        made = negatives.run(project, args.snapshot, args.negatives, args.seed, _progress)
    else:
        counts = project.settings("dataset", Dataset).clean.counts_tokens
        wanted = augment.Wanted(
            tuple(args.kind) or tuple(page_edits.KINDS),
            args.each,
            args.seed,
            _tokenizer(project) if counts else None,
            f"{datetime.now(UTC):%Y-%m-%d}",
        )
        made = augment.run(project, args.snapshot, wanted, _progress)
    shown = [(kind, n) for kind, n in made.facts["by_kind"].items()]
    shown += [(f"refused: {reason}", n) for reason, n in made.facts["refused"].items()]
    console.table(f"{made.path.name}: {made.facts['rows']} rows", ("kind", "count"), shown)
    console.done(made.path)


def _progress(rows: object, count: int) -> object:
    return console.progress(rows, count, "augmenting")


def _tokenizer(project: Project) -> str:
    from sem.lm.local import chat

    chosen = chat.load_of(project)
    return chosen.definition


if __name__ == "__main__":
    console.run(main)
