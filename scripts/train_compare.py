"""Show two or more runs side by side: recipe, data, losses, speed, and what is not comparable.

    python scripts/train_compare.py --sem shop RUN RUN

The first run is the one that the others are compared with on test.

Reads   models/SEM/adapters/RUN/{run.json,metrics.jsonl,manifest.json}, reports/SEM/RUN/
Writes  reports/SEM/compare/NAME/compare.{md,json,html}
"""

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two or more runs")
    args = parser.parse_args(argv)
    from sem.train.run import run_compare

    project = Project.load(args.sem)
    sides = run_compare.read(project, args.runs)
    found = run_compare.compared(project, sides)
    console.table(f"{project.sem}: runs", ("what", *found["runs"]), run_compare.table(found))
    for line in (*run_compare.notes(found), *map(run_compare.test_sentence, found["test"])):
        console.note(line)
    console.done(run_compare.write(project, found, sides) / "compare.md")


if __name__ == "__main__":
    console.run(main)
