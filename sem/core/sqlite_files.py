"""SQLite files that processes share: every fault of one is a SemError that names the file.

HOLDS = SqliteHolds("ledger", "it holds what was spent; restore a copy, or move it away")
with sqlite_faults(path, HOLDS):
    row = typed_row(db.execute("SELECT count(*) FROM items").fetchone(), int)
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core.errors import Busy, SemError

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Faults of the disk or of a permission: the file itself is as it was.
PLACE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
)


@dataclass(frozen=True)
class SqliteHolds:
    """What a file is, and what its owner loses or can do when it is damaged."""

    name: str
    way_out: str


@contextmanager
def sqlite_faults(path: Path, holds: SqliteHolds) -> Iterator[None]:
    """Raise a SemError that names `path` for whatever SQLite finds wrong with it.

    The file is left as it is: what it holds may still be read by hand.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # Of an extended code, the last byte is the plain one.
        code = getattr(error, "sqlite_errorcode", None) or 0
        if code & 0xFF in BUSY:
            raise Busy(
                f"{path}: another process is writing this {holds.name}", "wait, then run again"
            ) from error
        if code & 0xFF in PLACE:
            raise SemError(
                f"{path}: the {holds.name} cannot be read or written: {error}",
                "free space or correct its permissions, then run again",
            ) from error
        raise SemError(
            f"{path}: not a usable {holds.name}: {_one_line(error)}", holds.way_out
        ) from error


def _one_line(error: Exception) -> str:
    # SQLite's message on a damaged schema quotes the bytes it found there.
    if isinstance(error, UnicodeDecodeError):
        return "it holds text that is not UTF-8"
    return " ".join(str(error).split())[:200]


def typed_row(row: Any, *types: type) -> tuple[Any, ...]:
    """Return `row` when it holds a value of each of `types`; raise sqlite3.DatabaseError if not.

    SQLite keeps a type with each value, so a damaged byte makes a text of a number.
    """
    if row is None or len(row) != len(types):
        raise sqlite3.DatabaseError("a row that it must hold is missing")
    for value, kind in zip(row, types, strict=True):
        if not isinstance(value, kind):
            raise sqlite3.DatabaseError(f"a value is {type(value).__name__}, not {kind.__name__}")
    return tuple(row)


@contextmanager
def sqlite_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done within, or roll it back; only one process is within at a time."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself on some faults, and a damaged file may refuse even this.
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
