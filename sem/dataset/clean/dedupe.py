"""Which cleaned rows stay: one per id, one per content, none that contradicts another.

Exact, by digest, in a table on disk: memory does not grow with pages and hardly with rows. Rows
come in any order; what is decided depends on their ids and contents alone.
"""

import errno
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.example import Example

# The row was refused before it came here; its reject says why.
OWN = "own"
BATCH = 2_000
TABLES = """
PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA cache_size = -65536;
PRAGMA temp_store = file;
CREATE TABLE entries (id TEXT, row BLOB, offset INTEGER, key BLOB, answer BLOB, number INTEGER);
CREATE TABLE refused (number INTEGER PRIMARY KEY, reason TEXT);
"""
ORDERED = "SELECT id, row, offset, key, answer, number FROM entries ORDER BY id, row, offset"
CONTRADICTED = """
SELECT id, row, offset, key, answer, number FROM entries
WHERE number NOT IN (SELECT number FROM refused) AND key IN (
    SELECT key FROM entries WHERE key <> x'' AND number NOT IN (SELECT number FROM refused)
    GROUP BY key HAVING min(answer) <> max(answer))
ORDER BY key, id, row, offset
"""


@dataclass(frozen=True, slots=True)
class SpillEntry:
    """One row's place in the spill, and digests of the stored row, its input and its answer."""

    id: str
    row: bytes
    offset: int
    # Empty for a row that is refused already.
    key: bytes = b""
    answer: bytes = b""
    # How many rows came before it.
    number: int = 0


@dataclass
class Conflict:
    """The answers to one input: how many values of each the input lacks, and its first row."""

    answers: dict[bytes, tuple[int, str]] = field(default_factory=dict)

    def objection(self, entry: SpillEntry) -> str:
        """Return why `entry` goes, "" when its answer is the one that stays."""
        mine = self.answers[entry.answer][0]
        others = [rank for answer, rank in self.answers.items() if answer != entry.answer]
        best, twin = min(others)
        if mine < best:
            return ""
        if mine > best:
            return f"{twin} answers the same input, and more of its values are in it"
        return f"{twin} answers the same input otherwise, and no better or worse by what is in it"


class SpillIndex:
    """Entries in a throw-away SQLite file; use it as a context manager."""

    def __init__(self, path: Path | None = None) -> None:
        if path is not None:
            path.unlink(missing_ok=True)
        self._path, self.count = path, 0
        self._pending: list[Any] = []
        self._table = sqlite3.connect(":memory:" if path is None else str(path))
        with self._disk():
            self._table.executescript(TABLES)

    def __enter__(self) -> "SpillIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def add(self, entry: SpillEntry) -> None:
        """Take one more `entry`, in any order."""
        self._pending.append(
            (entry.id, entry.row, entry.offset, entry.key, entry.answer, self.count)
        )
        self.count += 1
        if len(self._pending) == BATCH:
            self._flush()

    def _flush(self) -> None:
        with self._disk():
            self._table.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", self._pending)
        self._pending = []

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(errno.ENOSPC, f"cannot be written: {error}", str(self._path)) from error

    def verdicts(
        self, conflicts: str, absent: Callable[[SpillEntry], int] = lambda entry: 0
    ) -> Iterator[tuple[SpillEntry, str | None, str]]:
        """Yield every entry in order of id, with the reason to refuse it or None, and a detail.

        Of equal inputs with different answers, when `conflicts` is 'reject', the answer stays
        that the input supports best: `absent` says how many of its values the input does not hold.
        Where two are equally well supported, all are refused. The detail names the twin.
        """
        self._flush()
        refused = ((entry.number, why) for entry, why in self._one_per_id() if why is not None)
        with self._disk():
            self._table.executemany("INSERT INTO refused VALUES (?, ?)", refused)
        settled = self._settled(absent) if conflicts == "reject" else {}
        digests: set[bytes] = set()
        for entry, reason in self._one_per_id():
            both = digest_of(entry.key + entry.answer)
            if reason is not None:
                yield entry, reason, ""
            elif both in digests:
                yield entry, "duplicate", ""
            else:
                digests.add(both)
                detail = settled[entry.key].objection(entry) if entry.key in settled else ""
                yield entry, "conflict" if detail else None, detail

    def _settled(self, absent: Callable[[SpillEntry], int]) -> dict[bytes, "Conflict"]:
        conflicts: dict[bytes, Conflict] = {}
        for values in self._table.execute(CONTRADICTED):
            entry = SpillEntry(*values)
            conflict = conflicts.setdefault(entry.key, Conflict())
            if entry.answer not in conflict.answers:
                conflict.answers[entry.answer] = (absent(entry), entry.id)
        return conflicts

    def _one_per_id(self) -> Iterator[tuple[SpillEntry, str | None]]:
        """Equal rows under one id count once, different ones not at all."""
        ordered = (SpillEntry(*values) for values in self._table.execute(ORDERED))
        for name, group in groupby(ordered, key=lambda entry: entry.id):
            same = list(group)
            is_clear = not name or all(entry.row == same[0].row for entry in same)
            for number, entry in enumerate(same):
                if not is_clear:
                    yield entry, "duplicate_id"
                elif name and number:
                    yield entry, "row_twice"
                else:
                    yield entry, None if entry.key else OWN


def input_key(example: Example) -> bytes:
    """Return what two rows of one task with the same input have in common."""
    return digest_text(jsonio.canonical_json([example.task, example.input_text]))


def answer_key(example: Example) -> bytes:
    """Return what two rows with the same reference have in common."""
    return digest_text(jsonio.canonical_json(example.output_json))


def digest_text(text: str) -> bytes:
    """16 bytes that stand for `text`."""
    return digest_of(text.encode("utf-8", "surrogatepass"))


def digest_of(content: bytes) -> bytes:
    """16 bytes that stand for `content`."""
    return hashlib.blake2b(content, digest_size=16).digest()
