"""The second door to DuckDB: rows taken out of a store so that their bytes are gone.

DELETE leaves the bytes in free blocks (measured: 1 of 1 rows still found), so what stays is
copied into a new file, which then takes the old one's name.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.dataset import store

SIDE_FILES = ("", ".wal", ".wal.checkpoint", ".wal.recovery", ".tmp")
BATCH = 256


def erase(path: Path, names: Collection[str]) -> int:
    """Remove the rows NAMES from the store at PATH for good; how many there were.

    The old file stays whole until the new one is synced and takes its name.
    """
    import duckdb

    if not path.exists():
        return 0
    with files.lock(path.with_name(path.name + ".lock"), str(path)):
        fresh = path.with_name(path.name + ".new")
        store.sweep(path)
        try:
            _fold_wal(path)
            gone = _copy(path, fresh, names)
        except duckdb.Error as error:
            raise SemError(
                f"{path}: not rewritten: {' '.join(str(error).split())[:200]}",
                "the old file is whole; free space, then run the same command again",
            ) from error
        _sync(fresh)
        os.replace(fresh, path)
        files.sync_folder(path.parent)
        store.sweep(path)
    return gone


def _fold_wal(path: Path) -> None:
    """Bring into the file what a killed writer left in its .wal, or the copy would lack it."""
    connection = store.open_for_writing(path)
    try:
        connection.execute("CHECKPOINT")
    finally:
        connection.close()


def _copy(old: Path, new: Path, names: Collection[str]) -> int:
    table = store.table_name()
    connection = _between(old, new)
    try:
        connection.execute(f"ATTACH {_quoted(old)} AS old (READ_ONLY)")
        connection.execute(f"ATTACH {_quoted(new)} AS new (STORAGE_VERSION '{_version()}')")
        connection.execute("COPY FROM DATABASE old TO new (SCHEMA)")
        connection.execute("CREATE TEMP TABLE gone (id VARCHAR PRIMARY KEY)")
        if names:
            connection.executemany("INSERT INTO gone VALUES (?)", [[n] for n in sorted(names)])
        for name in _tables(connection):
            kept = " WHERE id IS NULL OR id::VARCHAR NOT IN (FROM gone)" if name == table else ""
            connection.execute(f'INSERT INTO new."{name}" SELECT * FROM old."{name}"{kept}')  # noqa: S608
        before, after = (_count(connection, f'{side}."{table}"') for side in ("old", "new"))
        connection.execute("CHECKPOINT new")
        connection.execute("DETACH new")
    finally:
        connection.close()
    return before - after


def _between(old: Path, new: Path) -> Any:
    """A connection that may open OLD and NEW and nothing else."""
    import duckdb

    closed = {k: v for k, v in store.CLOSED.items() if k != "enable_external_access"}
    connection = duckdb.connect(":memory:", config=closed)
    allowed = [path.with_name(path.name + end) for path in (old, new) for end in SIDE_FILES]
    connection.execute(f"SET allowed_paths = [{', '.join(map(_quoted, allowed))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _version() -> str:
    return store.STORAGE_VERSION


def _tables(connection: Any) -> list[str]:
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'old' ORDER BY 1"
    ).fetchall()
    names = [row[0] for row in found]
    if any('"' in name for name in names):
        raise SemError(f"a table is called {names!r}", "a store holds one plain table of rows")
    return names


def _count(connection: Any, table: str) -> int:
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def texts(path: Path) -> Iterator[str]:
    """Every value of every table in the DuckDB file at PATH as text."""
    import duckdb

    try:
        connection = store.connect(path)
        query = "SELECT table_name FROM duckdb_tables() WHERE NOT internal"
        for (name,) in connection.execute(query).fetchall():
            quoted = name.replace('"', '""')
            found = connection.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{quoted}"')  # noqa: S608
            while batch := found.fetchmany(BATCH):
                yield from (value for row in batch for value in row if value)
        connection.close()
    except duckdb.Error as error:
        raise store.explained(path, error) from error
