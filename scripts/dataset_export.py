"""Write one part of a snapshot in a form that other trainers read.

    python scripts/dataset_export.py --sem shop --format sharegpt --split train --out train.jsonl

Reads   data/SEM/processed/{train,val,test}.vN.jsonl
Writes  the file named by --out, JSON lines: sharegpt, alpaca, messages (OpenAI), chatml (a column
        `text`), axolotl (messages; its `datasets:` lines are printed) or taskspec
"""

from pathlib import Path

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "snapshot", "set")
    parser.add_argument("--format", required=True, help="see above")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    args = parser.parse_args(argv)

    from sem.core.project import Project
    from sem.dataset.split import export, snapshot

    project = Project.load(args.sem, args.set)
    export.check(args.format)
    frozen = snapshot.load(project, args.snapshot)
    count = export.write(project, frozen, args.split, args.format, args.out)
    rows = [(frozen.name, args.split, args.format, count)]
    console.table(f"Export of {project.sem}", ("snapshot", "part", "format", "rows"), rows)
    if lines := export.how_to_use(args.format, args.out):
        print(f"# Axolotl's configuration reads it with\n{lines}")
    console.done(args.out)


if __name__ == "__main__":
    console.run(main)
