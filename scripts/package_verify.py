"""Check that a package is what it says it is, and that it answers as the run that was proven.

    python scripts/package_verify.py --sem shop --run RUN --answers 20

Every hash, and what follows from something else in it: the lineage, the report, what runtimes
read, the tensors. Exit 1 names each fault. --answers N repeats at least N proven prompts with the
packaged model and wants the same bytes; the same machine and precision as the evaluation are
needed for that.

Reads   models/SEM/packages/RUN/, reports/SEM/RUN/answers.test.jsonl
"""

import argparse
from pathlib import Path

from sem.core import console, taint
from sem.core.errors import SemError
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "set")
    parser.add_argument("--path", type=Path, help="a package folder anywhere, not of a sem here")
    parser.add_argument("--answers", type=int, default=0, help="repeat N proven prompts")
    args = parser.parse_args(argv)
    from sem.package.verify import verify

    folder = args.path or packaged(args)
    faults = verify.faults(folder)
    if faults:
        raise SemError(f"{folder}: {len(faults)} faults:\n       " + "\n       ".join(faults),
                       "do not use it: restore the files or export it again")  # fmt: skip
    print(f"every file of {folder.name} is as the manifest says")
    if args.answers:
        same_answers(args, folder)
    console.done(folder)


def packaged(args: argparse.Namespace) -> Path:
    """Return the package of the run; SemError when a takedown tainted it, or the run."""
    from sem.package.export import bundle

    project = Project.load(args.sem)
    folder = bundle.latest(project, args.run)
    taint.refuse(project.adapters / folder.name, f"run {folder.name}")
    return folder


def same_answers(args: argparse.Namespace, folder: Path) -> None:
    """Say how many proven answers come back byte for byte; SemError unless all do."""
    from sem.eval.answers import subject
    from sem.package.verify import verify

    project = Project.load(args.sem, args.set)
    proven = subject.resolve(project, folder.name, "test", None)
    if not proven.book.path.exists():
        raise SemError(
            f"run {folder.name} has no answers on the test part: the package's hashes are right, "
            "its answers were not compared",
            "answer the test part first: `fab eval.generate`, or `opensem-cli eval`",
        )
    equal, asked = verify.answers_again(proven, folder, args.answers)
    print(f"{equal} of {asked} proven answers are byte-equal")
    if equal < asked:
        raise SemError(
            f"{folder}: {asked - equal} of {asked} answers differ from the proven ones",
            "was it evaluated on another machine or precision? evaluate again here",
        )


if __name__ == "__main__":
    console.run(main)
