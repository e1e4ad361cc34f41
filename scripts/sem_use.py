"""Make a project the current one: jobs and scripts work on it without --sem.

    python scripts/sem_use.py rust

--sem and $SEM win over it; without any of them fabric.yaml names the project.

Writes  .opensem_project
"""

from sem.core import console, projects


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__)
    parser.add_argument("name", metavar="NAME")
    args = parser.parse_args(argv)
    path = projects.use(projects.tree(), args.name)
    console.note(f"{args.name} is the current project")
    console.done(path)


if __name__ == "__main__":
    console.run(main)
