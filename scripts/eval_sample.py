"""Pick slots for a person to check, as a sheet; take the filled-in sheet back.

    python scripts/eval_sample.py --sem shop --run RUN --count 40
    python scripts/eval_sample.py --sem shop --run RUN --take reports/shop/RUN/spotcheck.test.csv

Fill in `human_pass` (yes or no: is the candidate right?) and, where the reference is wrong,
`correction` (JSON: "text", 12.5, null). Labels calibrate the judge. Corrected rows go back into
the store with their history, and are never trained on.

Reads   reports/SEM/RUN/{answers,verdicts}.SPLIT.jsonl, the sheet
Writes  reports/SEM/RUN/{spotcheck.SPLIT.csv, human_labels.jsonl}, data/SEM/golden/held.jsonl,
        data/SEM/raw/dataset.duckdb
"""

from pathlib import Path

from sem.core import console, files, provenance
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "split", "snapshot", "set")
    parser.add_argument("--count", type=int, default=40, help="slots on the sheet (default: 40)")
    parser.add_argument("--take", type=Path, help="a filled-in sheet to read back")
    args = parser.parse_args(argv)
    from sem.eval.answers import subject
    from sem.eval.judge import verdicts
    from sem.eval.report import compare, spotcheck

    project = Project.load(args.sem, args.set)
    found = subject.resolve(project, args.run, args.split, console.version(args.snapshot))
    folder = project.reports / found.run.id
    if args.take:
        known = {example.id: example for example in found.examples}
        taken = spotcheck.take(args.take, found.tasks, known)
        changed = spotcheck.keep(project, found, taken, provenance.now().isoformat())
        rows = [("labels", len(taken.labels)), ("rows corrected in the store", changed),
                ("lines left blank", taken.blank)]  # fmt: skip
        console.table(f"Spot-check of {found.run.id}", ("what", "count"), rows)
        if changed:
            console.note("clean and split again: the corrected rows go into test, never train")
        console.done(folder)
        return
    scores = compare.scored(found)
    lines = spotcheck.choose(
        scores, verdicts.load(folder / f"verdicts.{args.split}.jsonl"), args.count,
        found.settings.seed,
    )  # fmt: skip
    path = files.write(folder / f"spotcheck.{args.split}.csv", spotcheck.sheet(lines, found))
    reasons = sorted({line.why for line in lines})
    rows = [(why, sum(line.why == why for line in lines)) for why in reasons]
    console.table(f"Slots of {found.run.id} to look at", ("why", "slots"), rows)
    console.done(path)


if __name__ == "__main__":
    console.run(main)
