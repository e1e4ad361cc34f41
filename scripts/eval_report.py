"""Score a run against the baseline on the same examples and say what is shown.

    python scripts/eval_report.py --sem shop --run RUN --split test

Reads   reports/SEM/{base,RUN}/answers.SPLIT.jsonl, data/SEM/processed/*.vN.jsonl
Writes  reports/SEM/RUN/{scores.json, report.md, report.html, *.eval-report.json},
        reports/SEM/backlog.jsonl (what the run still gets wrong, and why)
"""

from sem.core import console, provenance
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "split", "snapshot", "set")
    parser.add_argument("--baseline", default="base", help="run to compare with (default: base)")
    parser.add_argument(
        "--also", action="append", default=[], metavar="RUN", help="the same with another seed"
    )
    args = parser.parse_args(argv)
    from sem.eval.report import backlog, compare, eval_report_v1, report, report_page

    project = Project.load(args.sem, args.set)
    version = console.version(args.snapshot)
    reading = compare.read(project, args.run, args.baseline, args.split, version)
    found = compare.scores(reading)
    if args.also:
        found["over_seeds"] = vars(compare.over_seeds(reading, args.also))
        found["notes"].append(report.seeds_note(found["over_seeds"]))
    run = found["tuned"]["run"]
    folder = project.reports / run
    report.write(folder, found)
    eval_report_v1.write(folder, found, reading.after.tasks, provenance.now().date())
    path = report_page.write(folder, found, reading)
    hard = backlog.rows(reading.compared.after, run, args.split)
    backlog.update(project, hard, args.split)
    title = f"{project.sem}: {args.baseline} vs {run}, {args.split}, n = {found['tuned']['n']}"
    console.table(title, report.columns(found), report.table(found))
    console.table("by field (tuned)", report.field_columns(found), report.field_rows(found))
    console.table(f"{len(hard)} hard examples (backlog)", ("why", "examples"), backlog.tags(hard))
    for line in report.test_sentences(found):
        print(line)
    print(found["verdict"])
    print(found["rivals"]["sentence"])
    console.done(path)


if __name__ == "__main__":
    console.run(main)
