"""Copy documents into a project, for `fab forge.run`.

    python scripts/sem_add_data.py --sem rust book/*.md notes.pdf
    python scripts/sem_add_data.py --sem rust --replace notes.pdf

A folder brings the files of known kinds in it. Links are refused; what is there with the same
bytes stays; nothing is overwritten without --replace. One file that cannot be taken: none is.

Writes  data/SEM/raw/
"""

from pathlib import Path

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file or folder")
    parser.add_argument("--replace", action="store_true", help="also over a file of its name")
    args = parser.parse_args(argv)
    from sem.cli import add_data
    from sem.core import projects
    from sem.core.project import Project

    project = Project.load(args.sem)
    place = projects.Place(project.sem, project.root)
    made = add_data.add(place, args.files, args.replace)
    left_out = add_data.left_out(args.files)
    rows = [(one.name, f"{one.bytes:,}", one.state) for one in made]
    console.table(f"documents of {project.sem}", ("file", "bytes", "state"), rows)
    left = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
    if left:
        console.note(f"left out of folders, as no forge reads them: {left}")
    console.done(place.raw)


if __name__ == "__main__":
    console.run(main)
