"""Project daily tokens against the budget; exit 1 past the alert threshold.

    python scripts/ops_project_tokens.py --sem shop --run base
    python scripts/ops_project_tokens.py --config usage.yaml

Tokens per request are those measured in the answers of --run where there are any, else the
averages of the budget file; the table says which. Of free and constrained answers those count
that eval.yaml asks for, else the other ones.

Reads   configs/budget.yaml, reports/SEM/RUN/answers.SPLIT.jsonl or answers.SPLIT.constrained.jsonl
"""

from pathlib import Path

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import Project
from sem.ops import budget


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "split")
    parser.add_argument("--config", type=Path, help="budget file (default: configs/budget.yaml)")
    args = parser.parse_args(argv)
    project = Project.load(args.sem)
    config = args.config or project.root / "configs" / "budget.yaml"
    settings = budget.load(config)
    answers = budget.find_answers(project, args.run, args.split)
    console.note(f"measured tokens: {answers or 'none yet; using the profile'}")
    projection = budget.project(settings, budget.measure(answers) if answers else {})
    columns = ("page", "requests/day", "prompt", "completion", "tokens/day", "from")
    console.table("projected daily tokens", columns, budget.rows(projection))
    if projection.is_alert:
        raise SemError(
            f"{projection.daily_tokens / 1e6:,.1f} M tokens a day is {projection.share:,.1f} x "
            f"the budget, past the alert at {projection.budget.alert_threshold:g}",
            f"lower traffic or prompt tokens, cache more, or raise daily_tokens in {config}",
        )


if __name__ == "__main__":
    console.run(main)
