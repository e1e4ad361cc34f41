"""A durable queue of work on rows in one SQLite file that workers share.

An item is leased for a while and comes back when its worker dies. The unique key makes adding the
same work twice one item. Only the worker that holds the lease can settle an item.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sem.core import files, jsonio
from sem.core.files import SqliteHolds, sqlite_faults, sqlite_transaction, typed_row

BUSY_S = 60.0
HOLDS = SqliteHolds(
    "queue",
    "it holds work on rows and results that are not in the store yet: restore a copy, or move it "
    "away; what was done is in the store, the rest is found again",
)
QUEUED, LEASED, DONE, FAILED = "queued", "leased", "done", "failed"
TABLES = """
CREATE TABLE IF NOT EXISTS items (
  number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, row TEXT NOT NULL,
  task TEXT NOT NULL, slots TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
  tries INTEGER NOT NULL, worker TEXT, until REAL, reason TEXT, before TEXT, after TEXT,
  result TEXT, settled_at REAL);
CREATE INDEX IF NOT EXISTS items_by_state ON items (state, kind, number);
CREATE TABLE IF NOT EXISTS starts (at REAL NOT NULL);
"""


@dataclass(frozen=True)
class RowWork:
    """What is to be done to one row; `target` names the state it leads to."""

    # Migrate | relabel | reclean.
    kind: str
    row: str
    task: str
    slots: tuple[str, ...]
    target: str

    @property
    def key(self) -> str:
        return files.sha256_json([self.kind, self.row, self.target])


@dataclass(frozen=True)
class QueueItem:
    """Work that a worker holds, and how often it was begun."""

    number: int
    work: RowWork
    tries: int


class Queue:
    """The queue in the file at `path`; each process opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")
            for statement in TABLES.split(";"):
                self._db.execute(statement)

    def close(self) -> None:
        self._db.close()

    def _faults(self) -> AbstractContextManager[None]:
        return sqlite_faults(self.path, HOLDS)

    def add(self, items: Iterable[RowWork]) -> int:
        """Queue what is not there yet, whatever became of it; how much that was."""
        with self._writing():
            return sum(self._add(work) for work in items)

    def _add(self, work: RowWork) -> int:
        slots = jsonio.canonical_json(list(work.slots))
        values = (work.key, work.kind, work.row, work.task, slots, work.target, QUEUED)
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO items (key, kind, row, task, slots, target, state, tries) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            values,
        )
        return cursor.rowcount

    def lease(
        self,
        kind: str,
        worker: str,
        now: float,
        lease_s: float,
        most: int,
        per_minute: int | None = None,
    ) -> list[QueueItem]:
        """Return at most `most` items of `kind` for `worker` until `now` + `lease_s`, fewer when
        the pace says so.

        Expired leases of others are taken over.
        """
        with self._writing():
            allowance = most if per_minute is None else min(most, per_minute - self._started(now))
            query = (
                "SELECT number, kind, row, task, slots, target, tries FROM items "
                "WHERE kind = ? AND (state = 'queued' OR (state = 'leased' AND until <= ?)) "
                "ORDER BY number LIMIT ?"
            )
            rows = self._db.execute(query, (kind, now, max(0, allowance))).fetchall()
            for row in rows:
                self._db.execute(
                    "UPDATE items SET state = 'leased', worker = ?, until = ?, tries = tries + 1 "
                    "WHERE number = ?",
                    (worker, now + lease_s, row[0]),
                )
                self._db.execute("INSERT INTO starts VALUES (?)", (now,))
            return [_item(row) for row in rows]

    def _started(self, now: float) -> int:
        self._db.execute("DELETE FROM starts WHERE at <= ?", (now - 60.0,))
        return int(self._db.execute("SELECT count(*) FROM starts").fetchone()[0])

    def done(
        self,
        item: QueueItem,
        worker: str,
        now: float,
        before: str | None,
        after: str | None,
        result: str | None = None,
    ) -> bool:
        """Settle `item`; False when `worker` does not hold it any more, and nothing is changed."""
        return self._settle(item, worker, now, (DONE, None, before, after, result))

    def failed(self, item: QueueItem, worker: str, now: float, reason: str, tries: int) -> bool:
        """Give `item` back, or end it as failed after `tries`."""
        state = FAILED if item.tries >= tries else QUEUED
        return self._settle(item, worker, now, (state, reason[:300], None, None, None))

    def give_back(self, item: QueueItem, worker: str, now: float) -> bool:
        """Give `item` back as if it had not been begun."""
        held = self._settle(item, worker, now, (QUEUED, None, None, None, None))
        with self._writing():
            self._db.execute(
                "UPDATE items SET tries = tries - 1 WHERE number = ? AND ?", (item.number, held)
            )
        return held

    def _settle(
        self, item: QueueItem, worker: str, now: float, values: tuple[str | None, ...]
    ) -> bool:
        with self._writing():
            cursor = self._db.execute(
                "UPDATE items SET state = ?, reason = ?, before = ?, after = ?, result = ?, "
                "settled_at = ?, worker = NULL, until = NULL "
                "WHERE number = ? AND state = 'leased' AND worker = ?",
                (*values, now, item.number, worker),
            )
            return cursor.rowcount == 1

    def results(self, most: int) -> dict[str, tuple[int, str]]:
        """Results that wait to be put in place: row -> (number, result), of about `most` items."""
        query = (
            "SELECT row, number, result FROM items WHERE result IS NOT NULL "
            "ORDER BY number LIMIT ?"
        )
        with self._faults():
            rows = [typed_row(row, str, int, str) for row in self._db.execute(query, (most,))]
        return {row: (number, result) for row, number, result in rows}

    def placed(self, numbers: Iterable[int]) -> None:
        """Forget the results of the items `numbers`, and of older ones on the same rows."""
        with self._writing():
            self._db.executemany(
                "UPDATE items SET result = NULL WHERE row = (SELECT row FROM items WHERE "
                "number = ?1) AND number <= ?1",
                [(number,) for number in numbers],
            )

    def counts(self, now: float) -> dict[tuple[str, str], int]:
        """Return how many items there are, by kind and state.

        An expired lease counts as queued.
        """
        query = (
            "SELECT kind, CASE WHEN state = 'leased' AND until <= ? THEN 'queued' ELSE state END, "
            "count(*) FROM items GROUP BY 1, 2 ORDER BY 1, 2"
        )
        with self._faults():
            rows = [typed_row(row, str, str, int) for row in self._db.execute(query, (now,))]
        return {(kind, state): count for kind, state, count in rows}

    def reasons(self) -> dict[str, int]:
        """Why items failed for good, and how many."""
        query = "SELECT reason, count(*) FROM items WHERE state = 'failed' GROUP BY 1 ORDER BY 2"
        with self._faults():
            return {str(reason): count for reason, count in self._db.execute(query)}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._faults(), sqlite_transaction(self._db):
            yield


def _item(row: tuple[object, ...]) -> QueueItem:
    number, kind, name, task, slots, target, tries = typed_row(
        row, int, str, str, str, str, str, int
    )
    try:
        named = jsonio.parse_json(slots)
    except ValueError as error:
        raise sqlite3.DatabaseError("the slots of an item are not JSON") from error
    if not isinstance(named, list):
        raise sqlite3.DatabaseError("the slots of an item are not a list")
    return QueueItem(number, RowWork(kind, name, task, tuple(named), target), tries + 1)
