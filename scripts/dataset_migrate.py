"""Bring the store and its references to the version that configs/SEM/migrations end at.

    python scripts/dataset_migrate.py --sem shop --dry-run
    python scripts/dataset_migrate.py --sem shop

Rows that a step does not fit are left as they are and listed.

Reads   data/SEM/raw/dataset.duckdb, configs/SEM/migrations/*.yaml
Writes  data/SEM/raw/dataset.duckdb (all changes or none), reports/SEM/migrate_rejects.jsonl
"""

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--dry-run", action="store_true", help="count what would change")
    args = parser.parse_args(argv)

    from sem.dataset.store import migrate, store_writer

    project = Project.load(args.sem, args.set)
    known = store_writer.version(project.store)
    if args.dry_run:
        rows = [("store version", f"{known} of {store_writer.CURRENT}")]
        rows += list(migrate.table(migrate.plan(project)))
        console.table("would be migrated", ("what", "count"), rows)
        return
    made, path = migrate.run(project)
    rows = [("store version", store_writer.version(project.store)), *migrate.table(made)]
    console.table(f"migrated {project.sem}", ("what", "count"), rows)
    console.done(path)


if __name__ == "__main__":
    console.run(main)
