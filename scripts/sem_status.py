"""Show what a project has, and the next command to type.

    python scripts/sem_status.py --sem rust

Reads   configs/SEM/, data/SEM/, models/SEM/, reports/SEM/
"""

from sem.core import console
from sem.core.errors import SemError


def main(argv: list[str] | None = None) -> None:
    args = console.parser(__doc__, "sem").parse_args(argv)
    from sem.cli import status
    from sem.core.project import Project

    project = Project.load(args.sem)
    found = status.of(project)
    console.table(f"project {project.sem}", ("what", "found"), found.rows)
    for fault in found.damaged:
        console.note(f"damaged: {fault}")
    if found.damaged:
        raise SemError(f"{len(found.damaged)} things of {project.sem} cannot be read", "see above")
    print(f"next: {found.next}")


if __name__ == "__main__":
    console.run(main)
