"""Merge the adapter and write a self-describing package.

    python scripts/package_export.py --sem shop --run RUN --target vllm

Reads   models/SEM/adapters/RUN/, reports/SEM/RUN/{report.md, scores.json}
Writes  models/SEM/packages/RUN/
"""

from sem.core import console
from sem.core.project import Project
from sem.core.run import find


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run")
    parser.add_argument(
        "--target",
        action="append",
        help="transformers, vllm or ollama (repeatable; default: all that can serve it)",
    )
    args = parser.parse_args(argv)
    from sem.package.export import bundle

    project = Project.load(args.sem)
    run = find(project, args.run)
    folder = bundle.export(project, run, args.target or [])
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    rows = [(p.relative_to(folder), f"{p.stat().st_size:,}") for p in files]
    console.table(f"package of {run.id}", ("file", "bytes"), rows)
    console.done(folder)


if __name__ == "__main__":
    console.run(main)
