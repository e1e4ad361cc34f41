"""Simplify pages, check references, drop duplicates: the store becomes clean.jsonl.

    python scripts/dataset_clean.py --sem shop

Reads   data/SEM/raw/dataset.duckdb, configs/SEM/dataset.yaml, configs/SEM/tasks/
Writes  data/SEM/processed/{clean.jsonl,rejects.jsonl,clean.json},
        reports/SEM/dataset_validation.md
"""

from datetime import UTC, datetime

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument(
        "--tokens", action="store_true", help="count tokens before and after; into every row"
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="this machine's cores, or a Ray cluster; the same bytes (default: local)",
    )
    parser.add_argument(
        "--ray-address", help="of a running cluster, as ray://HOST:10001 (default: one here)"
    )
    args = parser.parse_args(argv)

    from sem.dataset.clean import clean
    from sem.dataset.config import Dataset

    project = Project.load(args.sem, args.set)
    counts = args.tokens or project.settings("dataset", Dataset).clean.counts_tokens
    how = clean.How(
        args.engine,
        args.ray_address,
        _tokenizer(project) if counts else None,
        f"{datetime.now(UTC):%Y-%m-%d}",
    )
    done = clean.run(project, how, lambda rows, count: console.progress(rows, count, "cleaning"))
    counts = [("read", done.tally.read), ("kept", done.tally.kept)]
    counts += [(f"rejected: {name}", n) for name, n in sorted(done.tally.reasons.items())]
    console.table(f"Cleaned {project.sem}", ("rows", "count"), counts)
    console.note(f"report: {done.report}")
    console.done(done.path)


def _tokenizer(project: Project) -> str:
    from sem.lm.local import chat

    chosen = chat.load_of(project)
    return chosen.definition


if __name__ == "__main__":
    console.run(main)
