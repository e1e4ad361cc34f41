"""Make a project: settings with every default visible, and folders for its data and models.

    python scripts/sem_new.py rust                              questions and answers
    python scripts/sem_new.py shop --template extraction        fields of a page
    python scripts/sem_new.py old --from-older                  complete an older layout in place

Reads   configs/NAME/{data,train,eval}_config.yaml with --from-older
Writes  configs/NAME/{tasks/*,dataset,train,eval,forge}.yaml, data/NAME/, models/NAME/,
        .opensem_project (NAME becomes the current project)
"""

from sem.core import console, projects


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="1 to 64 of a-z 0-9 . _ -")
    parser.add_argument("--template", default="qa", help="qa or extraction (default: qa)")
    parser.add_argument(
        "--base-model", default=None, metavar="ID", help="as env_weights.py --list names it"
    )
    parser.add_argument(
        "--from-older", action="store_true", help="keep an older project's files, add what lacks"
    )
    args = parser.parse_args(argv)
    from sem.cli import new
    from sem.lm.weights import weights

    root = projects.tree()
    base = weights.named(args.base_model or new.BASE_MODEL, root)
    if args.from_older:
        made = new.complete_older(root, args.name, base)
    else:
        made = new.create(root, args.name, args.template, base)
    projects.use(root, made.name)
    console.note(f"{made.name} is the current project; next: opensem-cli add-data FILES…")
    console.done(made.folder("configs"))


if __name__ == "__main__":
    console.run(main)
