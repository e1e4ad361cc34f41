"""Let the teacher answer the golden questions before it writes any: go or no-go (exit 0 or 1).

    python scripts/forge_teacher.py --sem handbook
    python scripts/forge_teacher.py --sem handbook --rows 20 --yes

Reads   data/SEM/golden/golden_set.json, configs/SEM/forge.yaml (teacher.min_right)
Writes  reports/SEM/forge_teacher.json
"""

import sys
from datetime import UTC, datetime

from sem.core import console
from sem.core.errors import SemError


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--rows", type=int, default=50, help="golden questions (default: 50)")
    parser.add_argument("--yes", action="store_true", help="agree to the cost beforehand")
    args = parser.parse_args(argv)
    if args.rows < 1:
        raise SemError(f"--rows {args.rows}", "ask for 1 or more")

    from sem.core.project import Project
    from sem.eval.judge import teacher_exam as exams
    from sem.forge.run import config
    from sem.forge.teacher import cost_forecast, teacher

    project = Project.load(args.sem, args.set)
    settings = config.load(project).settings.teacher
    asked = teacher.teacher(settings, project.root, datetime.now(UTC))
    exam = exams.prepare(project, args.rows)
    cost = asked.client.estimate([request for _, request in exams.requests(exam, asked)])
    told = f"{cost.calls} calls of {asked.name} for at most ${cost.at_most_usd:.4f}"
    console.note(f"{told}, {cost.cached} more answered before")
    if cost.at_most_usd:
        cost_forecast.allow(told, args.yes)
    result = exams.sit(exam, asked, settings.min_right)
    console.table(f"Teacher {asked.name}", ("exam", ""), exams.table(exam, result))
    print(result.verdict)
    console.done(exams.write(exam, result, asked.name))
    if not result.is_go:
        sys.exit(1)


if __name__ == "__main__":
    console.run(main)
