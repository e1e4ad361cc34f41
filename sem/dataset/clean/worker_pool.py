"""Rows cleaned in a few sandboxed processes, in order; a bad page costs one of them at most.

Parsers take quadratic time on deep nesting and on many attributes (360 kB of `<div>`: 17 s).
A linear scan refuses those first; the limits of a worker end the rest, and its batch is done
again row by row.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sem.core import sandbox
from sem.dataset.clean import near_duplicates
from sem.dataset.clean.row_cleaning import CleanedRow, CleaningPlan, RowCleaner, plan_of
from sem.dataset.html import markup
from sem.dataset.store.examples_table import RawRow

Rows = tuple[RawRow, ...]


class Pool:
    """`clean.workers` workers that do what `plan` says; a context manager."""

    def __init__(self, plan: CleaningPlan) -> None:
        clean = plan.clean
        self._max_bytes = clean.max_bytes
        limits = sandbox.JobLimits(clean.deadline_s, clean.memory_mib)
        setup = {"plan": plan.as_json()}
        self._workers = [
            sandbox.Worker(load_row_cleaner, setup, limits, "page")
            for _ in range(max(1, clean.workers))
        ]

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def map(self, batches: Iterable[Rows]) -> Iterator[tuple[Rows, list[CleanedRow]]]:
        """Yield every batch with what its rows became, in order."""
        waiting: deque[tuple[Rows, sandbox.Worker | None]] = deque()
        free = deque(self._workers)
        for rows in batches:
            if self._is_too_large(rows):
                waiting.append((rows, None))
            else:
                while not free:
                    yield _oldest(waiting, free)
                worker = free.popleft()
                worker.send(_request(rows))
                waiting.append((rows, worker))
            while waiting and waiting[0][1] is None:
                yield _oldest(waiting, free)
        while waiting:
            yield _oldest(waiting, free)

    def _is_too_large(self, rows: Rows) -> bool:
        """Return whether `rows` is one row, too large for a worker to read at all."""
        text = (rows[0].input_text or "") if len(rows) == 1 else ""
        if len(text) * 4 <= self._max_bytes:
            return False
        return (
            len(text) > self._max_bytes or len(text.encode("utf-8", "replace")) > self._max_bytes
        )


def _request(rows: Rows) -> dict[str, Any]:
    return {"rows": [vars(row) for row in rows]}


def _oldest(
    waiting: deque[tuple[Rows, sandbox.Worker | None]], free: deque[sandbox.Worker]
) -> tuple[Rows, list[CleanedRow]]:
    """Return the oldest batch of `waiting` and its outcomes; its worker is free again."""
    rows, worker = waiting.popleft()
    if worker is None:
        return rows, [CleanedRow(reason="page_size")]
    outcomes = _received(rows, worker)
    free.append(worker)
    return rows, outcomes


def _received(rows: Rows, worker: sandbox.Worker) -> list[CleanedRow]:
    answer = worker.receive()
    if "rows" in answer:
        return [CleanedRow(**fields) for fields in answer["rows"]]
    if len(rows) == 1:
        return [CleanedRow(**answer)]
    # The worker died of one of them: each is done by itself.
    outcomes = []
    for row in rows:
        worker.send(_request((row,)))
        outcomes += _received((row,), worker)
    return outcomes


def load_row_cleaner(setup: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what cleans a batch by the plan in `setup`. Runs in a worker."""
    plan = plan_of(setup["plan"])
    cleaner = RowCleaner(plan, lambda: sandbox.set_timers(plan.clean.deadline_s))
    markup.simplify_page("<p>warm</p>")
    # NumPy loads ctypes, which no job may.
    near_duplicates.sketch_texts(["warm"], plan.clean.near.threshold)
    return lambda job: {"rows": [vars(cleaner.make(RawRow(**row))) for row in job["rows"]]}
