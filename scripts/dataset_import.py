"""Add examples from a file to the store: DuckDB, Parquet, CSV, JSON, JSONL (.gz) or a ZIP chunk.

    python scripts/dataset_import.py chunk.zip --sem shop
    python scripts/dataset_import.py rows.jsonl --sem shop --task receipts --limit 500

Reads   the file
Writes  data/SEM/raw/dataset.duckdb (all rows or none), reports/SEM/import_rejects.jsonl
"""

from pathlib import Path

from sem.core import console
from sem.core.errors import SemError


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("path", type=Path, help="the file to read")
    parser.add_argument("--task", help="task of the rows that name none")
    parser.add_argument("--only", action="append", default=[], help="take this task (repeatable)")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="a task")
    parser.add_argument("--limit", type=int, help="take that many rows at most")
    parser.add_argument(
        "--on-conflict",
        choices=("error", "skip", "replace"),
        default="error",
        help="when an id is there with other content (default: error)",
    )
    args = parser.parse_args(argv)

    from sem.core.project import Project
    from sem.dataset import importers

    names = dict(pair.partition("=")[::2] for pair in args.rename)
    if not all(names.values()):
        raise SemError(f"--rename {args.rename}: not OLD=NEW", "write both names")
    project = Project.load(args.sem, args.set)
    options = importers.Options(args.task, tuple(args.only), names, args.limit, args.on_conflict)
    result = importers.run(project, args.path, options)
    rows = [("read", result.read), ("of another task", result.other_task)]
    rows += list(vars(result.stored).items()) if result.stored else []
    rows += [(f"rejected: {reason}", count) for reason, count in sorted(result.rejects.items())]
    console.table(f"Import into {project.sem}", ("rows", "count"), rows)
    console.done(project.store)


if __name__ == "__main__":
    console.run(main)
