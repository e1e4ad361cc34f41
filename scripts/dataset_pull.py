"""Fetch examples from another machine (or path), whole or not at all, and add them to the store.

    python scripts/dataset_pull.py --source me@host:/data/dataset.duckdb --sem shop
    python scripts/dataset_pull.py --source host:/capture/chunks --sem shop     those not yet taken

Reads   the source over OpenSSH (known host keys only, no passwords), or a path here
Writes  data/SEM/raw/{dataset.duckdb, feed.jsonl}, reports/SEM/import_rejects.jsonl;
        data/SEM/raw/incoming/ while it runs: a cut transfer goes on from there
"""

from datetime import UTC, datetime

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--source", required=True, help="[user@]host:/path, or a path here")
    parser.add_argument("--ssh-config", help="ssh configuration file (default: the user's)")
    parser.add_argument("--task", help="task of the rows that name none")
    parser.add_argument("--map", action="append", default=[], metavar="OURS=THEIRS",
                        help="a column, also as column.key (repeatable)")  # fmt: skip
    parser.add_argument("--on-conflict", choices=("error", "skip", "replace"), default="error",
                        help="when an id has other content (default: error)")  # fmt: skip
    parser.add_argument("--replace", action="store_true",
                        help="the whole store, also when rows here are not in it")  # fmt: skip
    args = parser.parse_args(argv)

    from sem.core.project import Project
    from sem.dataset.ingest import capture_feed, column_mapping, importers, pull

    project = Project.load(args.sem, args.set)
    options = importers.Options(
        task=args.task, on_conflict=args.on_conflict, columns=column_mapping.parse(args.map)
    )
    made = pull.run(
        project, args.source, options, datetime.now(UTC), args.ssh_config, args.replace
    )
    rows = [one.row() for one in made.feed.items]
    console.table(f"Pull into {project.sem}", capture_feed.COLUMNS, rows)
    counts = [*made.feed.counts(), *(sorted(made.left.items()))]
    if made.lost:
        counts.append(("rows of the store before that are gone", made.lost))
    if counts:
        console.table("Left out", ("why", "count"), counts)
    for text in sorted(made.feed.notes):
        console.note(f"note: {text}")
    made.feed.check()
    console.done(project.store)


if __name__ == "__main__":
    console.run(main)
