"""Delete one project: its settings, data, models and reports; asks before it does.

    python scripts/sem_delete.py rust
    python scripts/sem_delete.py rust --yes

Replies of judges and teachers in data/.lm are shared by all projects and stay.

Writes  removes {configs,data,models,reports}/NAME, and .opensem_project where it names NAME
"""

from sem.core import console, projects
from sem.core.errors import SemError


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    args = parser.parse_args(argv)
    from sem.cli import delete

    listing = delete.look(projects.tree(), args.name)
    console.table(f"goes with {args.name}", ("what", "how much"), listing.rows)
    if not args.yes and not console.agreed(f"delete {args.name}?"):
        raise SemError("nothing was deleted", "answer y, or add --yes")
    delete.delete(listing)
    print(f"deleted {args.name}")


if __name__ == "__main__":
    console.run(main)
