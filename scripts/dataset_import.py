"""Add examples from files to the store: DuckDB, Parquet, CSV, JSON, JSONL (.gz), ZIP chunks.

    python scripts/dataset_import.py incoming/ --sem shop         chunks not yet taken, in order
    python scripts/dataset_import.py rows.jsonl --sem shop --task receipts --limit 500
    python scripts/dataset_import.py pages.csv --map input_text=html --map meta.url=source.link

Reads   the files
Writes  data/SEM/raw/{dataset.duckdb, feed.jsonl}: all rows of a file or none
        reports/SEM/import_rejects.jsonl
"""

from datetime import UTC, datetime
from pathlib import Path

from sem.core import console
from sem.core.errors import SemError


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("path", type=Path, nargs="+", help="a file, or a folder of chunks")
    parser.add_argument("--task", help="task of the rows that name none")
    parser.add_argument("--only", action="append", default=[], help="take this task (repeatable)")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="a task")
    parser.add_argument("--map", action="append", default=[], metavar="OURS=THEIRS",
                        help="a column, also as column.key (repeatable)")  # fmt: skip
    parser.add_argument("--limit", type=int, help="take that many rows at most")
    parser.add_argument("--again", action="store_true", help="also chunks that were taken before")
    parser.add_argument("--on-conflict", choices=("error", "skip", "replace"), default="error",
                        help="when an id has other content (default: error)")  # fmt: skip
    args = parser.parse_args(argv)

    from sem.core.project import Project
    from sem.dataset.ingest import capture_feed, column_mapping, importers

    names = dict(pair.partition("=")[::2] for pair in args.rename)
    if not all(names.values()):
        raise SemError(f"--rename {args.rename}: not OLD=NEW", "write both names")
    project = Project.load(args.sem, args.set)
    options = importers.Options(
        args.task,
        tuple(args.only),
        names,
        args.limit,
        args.on_conflict,
        column_mapping.parse(args.map),
    )
    made = capture_feed.run(project, args.path, options, datetime.now(UTC), args.again)
    console.table(
        f"Import into {project.sem}", capture_feed.COLUMNS, [one.row() for one in made.items]
    )
    counts = list(made.counts())
    if counts:
        console.table("Rows left out", ("why", "rows"), counts)
        console.note(f"each of them: {made.report}")
    for text, count in sorted(made.notes.items()):
        console.note(f"note: {text}" + (f" ({count} files)" if count > 1 else ""))
    made.check()
    console.done(project.store)


if __name__ == "__main__":
    console.run(main)
