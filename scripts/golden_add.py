"""Add hand-made questions with their answers to a sem's golden set.

    python scripts/golden_add.py --sem rust --question "What owns a value?" --answer "A variable."
    python scripts/golden_add.py --sem rust quiz.json --map answer=golden_answer --keep

A file is JSON, JSON lines or CSV. Keys that are none of ours are refused by name, or kept in meta
with --keep. The same question added twice is there once. One entry that cannot be used: none is.

Writes  data/SEM/golden/{golden_set.json, golden.jsonl}
"""

from pathlib import Path

from sem.core import console
from sem.core.errors import SemError


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem")
    parser.add_argument("file", nargs="?", type=Path, help="JSON, JSON lines or CSV")
    parser.add_argument("--question")
    parser.add_argument("--answer", help="a text, or JSON of the task's io_schema")
    parser.add_argument("--task", help="task_id, where the sem has several")
    parser.add_argument(
        "--map", action="append", default=[], metavar="OURS=THEIRS", help="their key as ours"
    )
    parser.add_argument("--keep", action="store_true", help="unknown keys go to meta")
    parser.add_argument("--replace", action="store_true", help="another answer to a known id")
    args = parser.parse_args(argv)
    from sem.core.project import Project
    from sem.eval.answers import golden_edit

    if (args.file is None) == (args.question is None):
        raise SemError("give a file, or --question and --answer", "see --help")
    if args.question is not None and args.answer is None:
        raise SemError("--question without --answer", "give both")
    project = Project.load(args.sem)
    if args.file is None:
        given = [("--question", {"question": args.question, "answer": args.answer})]
    else:
        given = golden_edit.read(args.file)
    if args.task:
        given = [(where, {"task": args.task, **item}) for where, item in given]
    how = golden_edit.Given(golden_edit.columns(args.map), args.keep)
    told = golden_edit.add(project, given, how, args.replace)
    rows = [
        ("added", len(told.added)), ("there already", told.same), ("replaced", told.replaced),
        ("taken down, left out", told.taken_down), ("lists joined to one answer", told.joined),
        *((f"key {name} kept in meta", count) for name, count in sorted(told.kept.items())),
    ]  # fmt: skip
    console.table(f"golden set of {project.sem}", ("what", "entries"), rows)
    console.done(project.golden.with_name("golden_set.json"))


if __name__ == "__main__":
    console.run(main)
