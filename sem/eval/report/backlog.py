"""The hard-example backlog: what a run still gets wrong, tagged with why, worst first.

It says which kind of example to collect. The rows themselves are held out: they go nowhere but
into reports/SEM/backlog.jsonl, and are never trained on.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sem.core import files, state
from sem.core.project import Project
from sem.eval.scoring.scoring import Score


def backlog_rows(scores: Sequence[Score], run: str, split: str) -> list[dict[str, Any]]:
    """Return one row an example with a failed or unscored slot: critical failures first."""
    rows = [_row(score, run, split) for score in scores if _is_hard(score)]
    return sorted(rows, key=lambda row: (-row["critical_failed"], row["accuracy"], row["id"]))


def count_tags(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return how many rows carry each tag, the most frequent first."""
    counts = Counter(tag for row in rows for tag in row["tags"])
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def update_backlog(project: Project, rows: Sequence[dict[str, Any]], split: str) -> None:
    """Replace the rows of `split` in the backlog by `rows` of the latest run."""
    path = project.reports / "backlog.jsonl"
    previous = state.read_state_rows(path, state.BacklogRow) if path.exists() else ()
    files.write_rows(path, [*(row for row in previous if row["split"] != split), *rows])


def _is_hard(score: Score) -> bool:
    return not score.row_exact or any(s.passed is None for s in score.slots.values())


def _row(score: Score, run: str, split: str) -> dict[str, Any]:
    failed = {name: list(s.errors) for name, s in score.slots.items() if s.passed is False}
    unscored = sorted(name for name, s in score.slots.items() if s.passed is None)
    kinds = {kind for errors in failed.values() for kind in errors}
    kinds |= {"unscored"} if unscored else set()
    kinds |= {score.finish} if score.finish != "stop" else set()
    kinds |= {"arithmetic"} if any(check.passed is False for check in score.checks) else set()
    return {
        "id": score.id,
        "task": score.task,
        "domain": score.domain,
        "stratum": score.stratum,
        "split": split,
        "run": run,
        "accuracy": round(score.accuracy, 6),
        "critical_failed": sum(name in failed for name in score.critical),
        "failed": failed,
        "unscored": unscored,
        "tags": sorted(kinds),
    }
