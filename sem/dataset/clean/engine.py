"""Where the per-row work runs: this machine's cores, or a Ray cluster. The records are the same.

Only their order differs, and nothing that is written depends on it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sem.dataset.clean import dedupe, worker_pool
from sem.dataset.clean.row_cleaning import CleanedRow, CleaningPlan
from sem.dataset.store.examples_table import RawRow

Engine = Literal["local", "ray"]

# Small rows travel together: a frame costs as much as the work on one of them.
MOST_ROWS = 32
MOST_CHARS = 200_000


@dataclass(frozen=True)
class RowRecord:
    """A stored row's id, task and digest, and what it became."""

    id: str
    task: str | None
    row: bytes
    made: CleanedRow


def clean_rows_locally(stored: Iterable[RawRow], plan: CleaningPlan) -> Iterator[RowRecord]:
    """Yield the record of every row of `stored`, in order, by `clean.workers` processes here."""
    with worker_pool.Pool(plan) as pool:
        for batch, outcomes in pool.map(row_batches(stored)):
            yield from map(row_record, batch, outcomes)


def row_record(row: RawRow, outcome: CleanedRow) -> RowRecord:
    """Return the Record of `row` and its `outcome`."""
    return RowRecord(row.id or "", row.task, dedupe.digest_text(repr(row)), outcome)


def row_batches(stored: Iterable[RawRow], chars: int = MOST_CHARS, rows: int = MOST_ROWS) -> Any:
    """Yield `stored` in tuples of at most `rows` rows and about `chars` characters, in order."""
    batch: list[RawRow] = []
    size = 0
    for row in stored:
        length = len(row.input_text or "")
        if batch and (size + length > chars or len(batch) == rows):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield tuple(batch)
