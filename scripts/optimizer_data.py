"""Write the prompt optimizer's pairs: vague prompts and good ones, split by task family.

    python scripts/optimizer_data.py
    python scripts/optimizer_data.py --also mine.json --set data.phrasings=6

Reads   configs/optimizer/{data,phrasings}.yaml, configs/optimizer/families/*.yaml,
        data/optimizer/feedback.jsonl (edited prompts with a success_score of 0.5 or more)
Writes  data/optimizer/{train,val,test,triplets,distillation,data}.json
"""

from pathlib import Path

from sem.core import console, files, projects
from sem.optimizer.data import optimizer_data


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "set")
    parser.add_argument(
        "--also", action="append", default=[], metavar="FILE", type=Path,
        help="further training pairs, triplets or distillation pairs (repeatable)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    root = projects.tree()
    wanted = optimizer_data.settings_of(root, args.set)
    with files.lock(root / optimizer_data.FOLDER / ".data.lock", "the optimizer's data"):
        made = optimizer_data.build(root, wanted, args.also)
        path = optimizer_data.save(root, made, wanted)
    columns = ("part", "pairs", "distinct subjects", "families", "categories")
    counts = made.counts().items()
    console.table("pairs", columns, [(name, *found.values()) for name, found in counts])
    for reason, count in sorted(made.left_out.items()):
        console.note(f"left out: {count} {reason}")
    console.done(path)


if __name__ == "__main__":
    console.run(main)
