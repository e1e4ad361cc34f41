"""Show every project, and which one is current.

    python scripts/sem_list.py

Reads   configs/*/, data/*/raw/, models/*/, .opensem_project
"""

from sem.core import console, projects


def main(argv: list[str] | None = None) -> None:
    console.parser(__doc__).parse_args(argv)
    from sem.cli import status

    root = projects.tree()
    columns = ("project", "current", "layout", "documents", "runs", "promoted")
    console.table(f"projects of {root}", columns, status.overview(root))


if __name__ == "__main__":
    console.run(main)
