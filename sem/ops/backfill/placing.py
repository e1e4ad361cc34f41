"""Recleaned rows put into clean.jsonl and rejects.jsonl, whole files at a time, in order of id."""

import heapq
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.clean.row_cleaning import Made
from sem.dataset.html import markup
from sem.ops.backfill.touched import RECLEAN
from sem.ops.backfill.work_queue import Queue

# Results that are held in memory and placed in one pass.
MOST = 20_000
# The row is no longer in the store.
GONE = "gone"


def clean_lines(project: Project, names: Set[str]) -> dict[str, str]:
    """Return the lines of clean.jsonl whose ids are `names`."""
    path = project.processed / clean.NAME
    if not path.exists():
        return {}
    with path.open("r", encoding="utf-8", newline="\n") as file:
        pairs = ((jsonio.parse_json(line)["id"], line.rstrip("\n")) for line in file)
        return {name: line for name, line in pairs if name in names}


def cleaned_inputs(project: Project, names: Set[str]) -> dict[str, str]:
    """Return the cleaned inputs of the rows `names`, by id; rows that were rejected have none."""
    return {
        n: jsonio.parse_json(line)["input_text"] for n, line in clean_lines(project, names).items()
    }


def placed_result(outcome: Made | None, before: str | None) -> str:
    """Return what `outcome` of a row is to be put in place of the line `before`, as one line of
    JSON.
    """
    if outcome is None:
        return jsonio.canonical_json({"reason": GONE})
    if outcome.reason is not None:
        rejected = {"task": outcome.task, "reason": outcome.reason, "detail": outcome.detail}
        return jsonio.canonical_json(rejected)
    row = jsonio.parse_json(outcome.line)
    near = jsonio.parse_json(before)["meta"].get("near") if before else None
    # Which cluster it is of is found by the next whole cleaning.
    if near is not None:
        row["meta"]["near"] = near
    return jsonio.canonical_json(row)


def place_results(project: Project, queue: Queue, now: float) -> int:
    """Put the results that wait in `queue` into `project`'s clean set; how many there were."""
    count = 0
    folder = project.processed
    if not (folder / clean.FACTS).exists():
        return 0
    while results := queue.results(MOST):
        rows_by_id = {name: jsonio.parse_json(line) for name, (_, line) in results.items()}
        with files.lock(folder / ".clean.lock", str(folder / clean.NAME)):
            clean_rows = {n: row for n, row in rows_by_id.items() if "reason" not in row}
            refused = {
                n: {"id": n, **row}
                for n, row in rows_by_id.items()
                if row.get("reason") not in (None, GONE)
            }
            rows = _merge(folder / clean.NAME, clean_rows, set(rows_by_id))
            _merge(folder / clean.REJECTS, refused, set(rows_by_id))
            _say(project, rows, queue, now)
        queue.placed(number for number, _ in results.values())
        count += len(results)
    return count


def _merge(path: Path, fresh: dict[str, Any], replaced: Set[str]) -> int:
    """Write `fresh` among the rows of `path` that are not `replaced`; how many rows that makes."""
    new = ((name, _line(fresh[name])) for name in sorted(fresh))
    count = 0
    with files.replacing(path) as file:
        for _, line in heapq.merge(_others(path, replaced), new, key=lambda pair: pair[0]):
            file.write(line)
            count += 1
    return count


def _others(path: Path, replaced: Set[str]) -> Iterator[tuple[str, bytes]]:
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                name = jsonio.parse_json(line.decode("utf-8")).get("id") or ""
                if name not in replaced:
                    yield name, line


def _line(row: Any) -> bytes:
    return (jsonio.canonical_json(row) + "\n").encode("utf-8")


def _say(project: Project, rows: int, queue: Queue, now: float) -> None:
    """Let clean.json say what is there; the new cleaner only when every row went through it."""
    path = project.processed / clean.FACTS
    facts: Any = state.read_state(path, state.CleanFacts)
    facts |= {"sha256": files.sha256_file(project.processed / clean.NAME), "rows": rows}
    counts = queue.counts(now)
    states = ("queued", "leased", "failed")
    if not any(counts.get((RECLEAN, state)) for state in states):
        facts["cleaner"] = markup.FINGERPRINT
        facts["store_sha256"] = files.sha256_file(project.store)
    files.write_file(path, jsonio.pretty(facts))
