"""Simplify pages, check references, drop duplicates: the store becomes clean.jsonl.

    python scripts/dataset_clean.py --sem shop

Reads   data/SEM/raw/dataset.duckdb, configs/SEM/dataset.yaml, configs/SEM/tasks/
Writes  data/SEM/processed/{clean.jsonl,rejects.jsonl,clean.json},
        reports/SEM/dataset_validation.md
"""

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    args = console.parser(__doc__, "sem", "set").parse_args(argv)

    from sem.core.project import Project
    from sem.dataset import clean

    project = Project.load(args.sem, args.set)
    done = clean.run(project, progress=lambda rows, n: console.progress(rows, n, "cleaning"))
    counts = [("read", done.tally.read), ("kept", done.tally.kept)]
    counts += [(f"rejected: {name}", n) for name, n in sorted(done.tally.reasons.items())]
    console.table(f"Cleaned {project.sem}", ("rows", "count"), counts)
    console.note(f"report: {done.report}")
    console.done(done.path)


if __name__ == "__main__":
    console.run(main)
