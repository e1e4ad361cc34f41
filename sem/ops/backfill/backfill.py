"""Rows brought up to date, item by item: references migrated, slots relabelled, pages recleaned.

Whatever is done is done once: an item's work is settled in its own file first (the store, in one
transaction), then in the queue, and doing it again changes nothing. Recleaned rows wait in the
queue until they are put into clean.jsonl together; duplicates among them are looked for by the
next `fab dataset.clean`.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import Busy
from sem.core.project import Project
from sem.dataset.clean import clean, dedupe, engine
from sem.dataset.clean.row_cleaning import CleanedRow, CleaningPlan
from sem.dataset.config import Dataset
from sem.dataset.html import markup
from sem.dataset.store import migrate, store, store_writer, tombstones
from sem.dataset.store.examples_table import RawRow
from sem.lm.api.client import Client
from sem.ops.backfill import relabel, touched
from sem.ops.backfill.touched import RECLEAN
from sem.ops.backfill.work_queue import Queue, QueueItem, RowWork
from sem.ops.config import Backfill

# Recleaned rows put into clean.jsonl and rejects.jsonl, whole files at a time, in order of id.

# Results that are held in memory and placed in one pass.
MAX_RESULTS = 20_000
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


def placed_result(outcome: CleanedRow | None, before: str | None) -> str:
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
    while results := queue.results(MAX_RESULTS):
        rows_by_id = {name: jsonio.parse_json(line) for name, (_, line) in results.items()}
        with files.lock_file(folder / ".clean.lock", str(folder / clean.NAME)):
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
    with files.open_atomic_file(path) as file:
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
    files.write_file(path, jsonio.pretty_json(facts))


FILE = "backfill.sqlite"
MOST = {touched.MIGRATE: 256, touched.RELABEL: 16, touched.RECLEAN: 128}
# For another worker that writes the store.
PATIENCE_S = 60.0


@dataclass
class BackfillWorker:
    """One worker: what it works with, and what it has done; clock in seconds since 1970."""

    project: Project
    queue: Queue
    worker: str
    at: datetime
    settings: Backfill = field(default_factory=Backfill)
    model: Client | None = None
    per_minute: int | None = None
    # a tokenizer.json, where budgets are in tokens.
    tokenizer: str | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    done: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ItemOutcome:
    """What became of an item: digests of the row before and after, or why it failed."""

    item: QueueItem
    before: str | None = None
    after: str | None = None
    result: str | None = None
    fault: str | None = None
    # Trying again would not help.
    is_final: bool = False


def queue_path(project: Project) -> Path:
    """Return the file of `project`'s queue."""
    return project.root / "data" / project.sem / FILE


def run_backfill(desk: BackfillWorker) -> Counter[str]:
    """Work until nothing is left that this worker can do; what it did, counted."""
    for kind in touched.KINDS:
        if kind == touched.RELABEL and desk.model is None:
            continue
        while items := _leased(desk, kind):
            for settled in ACTS[kind](desk, items):
                _settle(desk, settled)
    desk.done["put into clean.jsonl"] += _patient(
        desk, lambda: place_results(desk.project, desk.queue, desk.clock())
    )
    return desk.done


def _leased(desk: BackfillWorker, kind: str) -> list[QueueItem]:
    """Return the next items of `kind`; waits while only the pace holds them back."""
    while True:
        now = desk.clock()
        items = desk.queue.lease(
            kind, desk.worker, now, desk.settings.lease_s, MOST[kind], desk.per_minute
        )
        if items or not desk.queue.counts(now).get((kind, "queued")):
            return items
        desk.sleep(1.0)


def _settle(desk: BackfillWorker, settled: ItemOutcome) -> None:
    item, now = settled.item, desk.clock()
    if settled.fault is not None:
        tries = item.tries if settled.is_final else desk.settings.tries
        is_held = desk.queue.failed(item, desk.worker, now, settled.fault, tries)
        desk.done[f"{item.work.kind}: not done" if is_held else "lease lost"] += 1
        return
    if not desk.queue.done(item, desk.worker, now, settled.before, settled.after, settled.result):
        desk.done["lease lost"] += 1
        return
    is_same = settled.before == settled.after
    desk.done[f"{item.work.kind}: {'as it was' if is_same else 'changed'}"] += 1
    if item.work.kind != touched.RECLEAN and not is_same:
        # The clean set still has the old reference.
        again = RowWork(touched.RECLEAN, item.work.row, item.work.task, (), str(settled.after))
        desk.queue.add([again])


def _rows(desk: BackfillWorker, items: Sequence[QueueItem]) -> dict[str, RawRow]:
    names = sorted({item.work.row for item in items})

    def read() -> dict[str, RawRow]:
        with store.open_store(desk.project.store) as opened:
            return {str(row.id): row for row in opened.rows(names)}

    return _patient(desk, read)


def _digest(reference: str | None) -> str:
    return dedupe.digest_text(reference or "").hex()


def _migrate(desk: BackfillWorker, items: Sequence[QueueItem]) -> Iterator[ItemOutcome]:
    rows, listed = _rows(desk, items), migrate.load_migrations(desk.project)
    changes, settled = [], []
    for item in items:
        row, steps = rows.get(item.work.row), listed.get(item.work.task)
        if row is None or not steps:
            settled.append(
                ItemOutcome(item, fault="the row or its migration is gone", is_final=True)
            )
            continue
        try:
            change, _ = migrate.change_of(row, steps, desk.project.tasks[item.work.task])
        except migrate.MigrationStepError as error:
            settled.append(ItemOutcome(item, fault=str(error), is_final=True))
            continue
        before = _digest(row.reference)
        after = before if change is None else _digest(change.reference)
        changes += [] if change is None else [change]
        settled.append(ItemOutcome(item, before, after))
    _update(desk, changes)
    yield from settled


def _update(desk: BackfillWorker, changes: Sequence[store_writer.RowChange]) -> None:
    _patient(desk, lambda: store_writer.update_store_rows(desk.project.store, changes))


def _patient(desk: BackfillWorker, act: Callable[[], Any]) -> Any:
    """Return what `act` gives once no other worker writes the same file; Busy after PATIENCE_S."""
    ends = desk.clock() + PATIENCE_S
    while True:
        try:
            return act()
        except Busy:
            if desk.clock() >= ends:
                raise
            desk.sleep(0.2)


def _relabel(desk: BackfillWorker, items: Sequence[QueueItem]) -> Iterator[ItemOutcome]:
    rows = _rows(desk, items)
    inputs = cleaned_inputs(desk.project, set(rows))
    by_task: dict[str, list[tuple[QueueItem, RawRow]]] = {}
    for item in items:
        if item.work.row in rows:
            by_task.setdefault(item.work.task, []).append((item, rows[item.work.row]))
        else:
            yield ItemOutcome(item, fault="the row is gone", is_final=True)
    for task, pairs in sorted(by_task.items()):
        spec = desk.project.tasks[task]
        for item, row, outcome in relabel.request_relabels(
            desk.model, spec, pairs, desk.settings, inputs
        ):
            if outcome.fault == "budget":
                desk.queue.give_back(item, desk.worker, desk.clock())
                desk.done["relabel: waits, the cap is reached"] += 1
                # Nothing more can be paid for; the rest stays queued.
                desk.model = None
                continue
            try:
                change = relabel.relabelled_change(item, row, outcome, spec, desk.at)
            except relabel.UnusableAnswerError as error:
                yield ItemOutcome(item, fault=str(error))
                continue
            _update(desk, [change])
            yield ItemOutcome(item, _digest(row.reference), _digest(change.reference))


def _reclean(desk: BackfillWorker, items: Sequence[QueueItem]) -> Iterator[ItemOutcome]:
    rows = _rows(desk, items)
    before = clean_lines(desk.project, {item.work.row for item in items})
    settings = desk.project.settings("dataset", Dataset).clean
    stones = tombstones.load_tombstones(desk.project).as_json()
    day = f"{desk.at:%Y-%m-%d}"
    plan = CleaningPlan(settings, desk.project.tasks, 0.0, desk.tokenizer, day, stones)
    results = {
        cleaned.id: cleaned.made
        for cleaned in engine.clean_rows_locally(iter(rows.values()), plan)
    }
    for item in items:
        name = item.work.row
        was = before.get(name)
        result = placed_result(results.get(name), was)
        old = None if was is None else _digest(was)
        yield ItemOutcome(item, old, _digest(result), result)


ACTS: dict[str, Callable[[BackfillWorker, Sequence[QueueItem]], Iterator[ItemOutcome]]] = {
    touched.MIGRATE: _migrate,
    touched.RELABEL: _relabel,
    touched.RECLEAN: _reclean,
}
