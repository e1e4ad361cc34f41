"""Compare two snapshots by row and by slot; write down that the difference is wanted.

    python scripts/dataset_diff.py v1 v2 --sem shop
    python scripts/dataset_diff.py v1 v2 --sem shop --acknowledge "120 new shops"

train.prepare refuses a snapshot that differs from the promoted run's until that is acknowledged.
Characters are counted, with --tokens the base model's tokens.

Reads   data/SEM/processed/*.vA.jsonl, *.vB.jsonl
Writes  reports/SEM/dataset_diff_vA_vB.{md,json}, configs/SEM/acknowledged.jsonl
"""

from collections.abc import Callable

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("before", help="the older version, as v1")
    parser.add_argument("after", help="the newer version, as v2")
    parser.add_argument("--acknowledge", metavar="WHY", help="the difference is wanted, and why")
    parser.add_argument("--tokens", action="store_true", help="count tokens, not characters")
    args = parser.parse_args(argv)

    from sem.core import provenance
    from sem.dataset.split import acknowledge, diff_report, snapshot_diff

    project = Project.load(args.sem, args.set)
    count = _tokenizer(project) if args.tokens else None
    found = snapshot_diff.between(project, args.before, args.after, count)
    title = f"{found.before.name} to {found.after.name}"
    console.table(title, diff_report.row_columns(found), diff_report.row_table(found))
    rows = diff_report.field_table(found)
    console.table("Fields and parts", ("task", "what", "rows"), rows)
    console.table("Slots", diff_report.SLOT_COLUMNS, diff_report.slot_table(found))
    path = diff_report.write(project, found)
    if args.acknowledge is not None:
        written = acknowledge.write(project, found, args.acknowledge, provenance.now())
        console.note(f"acknowledged in {written}")
    console.done(path)


def _tokenizer(project: Project) -> Callable[[str], int]:
    from sem.lm.local import chat

    chosen = chat.load_of(project)
    return lambda text: len(chosen.tokenizer(text, add_special_tokens=False)["input_ids"])


if __name__ == "__main__":
    console.run(main)
