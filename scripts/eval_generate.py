"""Answer a split with a run's model; `base` is the untouched one.

    python scripts/eval_generate.py --sem shop --run base --split test

    python scripts/eval_generate.py --sem shop --take strong.jsonl

Answers are appended row by row: a killed job goes on where it stopped.

Reads   data/SEM/processed/*.vN.jsonl, models/SEM/adapters/RUN/, configs/SEM/eval.yaml
Writes  reports/SEM/RUN/answers.SPLIT.jsonl and .json (what the answers depend on)
"""

from argparse import Namespace
from pathlib import Path

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "split", "snapshot", "set")
    parser.add_argument(
        "--decoding",
        choices=("free", "constrained"),
        help="constrained: each token is held to io_schema (default: eval.decoding)",
    )
    parser.add_argument(
        "--take",
        type=Path,
        help="answers of the model being replaced: JSONL of id and candidate, kept as run strong",
    )
    args = parser.parse_args(argv)
    from sem.eval.answers import subject

    # What is asked for here wins over what eval.yaml says of the untouched model.
    asked = (f"eval.decoding={args.decoding}", "eval.base_decoding=same")
    decoding = asked if args.decoding else ()
    project = Project.load(args.sem, [*args.set, *decoding])
    if args.take:
        take(project, args)
        return
    found = subject.resolve(project, args.run, args.split, console.version(args.snapshot))
    before = subject.answer(found)
    rows = [("answered", len(found.examples)), ("answered before", before)]
    console.table(f"{found.run.id} on {args.split}", ("what", "rows"), rows)
    console.done(found.book.path)


def take(project: Project, args: Namespace) -> None:
    """Keep the answers in args.take as those of the run called `strong`."""
    from sem.eval.answers import answers, subject

    found = subject.resolve(project, None, args.split, console.version(args.snapshot))
    target = project.reports / "strong" / f"answers.{args.split}.jsonl"
    tasks = {example.id: example.task for example in found.examples}
    kept, strangers, missing = answers.take(args.take, target, tasks)
    rows = [("kept", kept), ("of no example here", strangers), ("without an answer", missing)]
    console.table(f"strong on {args.split}", ("what", "rows"), rows)
    console.done(target)


if __name__ == "__main__":
    console.run(main)
