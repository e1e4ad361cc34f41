"""Simplify pages, check references, drop duplicates: the store becomes clean.jsonl.

    python scripts/dataset_clean.py --sem shop

Reads   data/SEM/raw/dataset.duckdb, configs/SEM/dataset.yaml, configs/SEM/tasks/
Writes  data/SEM/processed/{clean.jsonl,rejects.jsonl,clean.json},
        reports/SEM/dataset_validation.md
"""

from collections.abc import Callable

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument(
        "--tokens", action="store_true", help="report tokens before and after, on a sample"
    )
    args = parser.parse_args(argv)

    from sem.dataset import clean

    project = Project.load(args.sem, args.set)
    done = clean.run(
        project,
        _counter(project) if args.tokens else None,
        lambda rows, count: console.progress(rows, count, "cleaning"),
    )
    counts = [("read", done.tally.read), ("kept", done.tally.kept)]
    counts += [(f"rejected: {name}", n) for name, n in sorted(done.tally.reasons.items())]
    console.table(f"Cleaned {project.sem}", ("rows", "count"), counts)
    console.note(f"report: {done.report}")
    console.done(done.path)


def _counter(project: Project) -> Callable[[str], int]:
    from sem.lm import chat, weights

    tokenizer = chat.load(weights.resolve(project.base_model_id, project.base_models).folder)
    return lambda text: len(tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"])


if __name__ == "__main__":
    console.run(main)
