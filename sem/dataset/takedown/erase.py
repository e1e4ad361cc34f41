"""The second door to DuckDB: rows taken out of a store so that their bytes are gone.

DELETE leaves the bytes in free blocks (measured: 1 of 1 rows still found). Copied into a new file
by the same process, they can come along in the unused ends of blocks, which DuckDB fills with
whatever its memory held (measured: 2 of 60 copies). So what stays is packed as Parquet, and a
process that never saw the rest writes the new file, which then takes the old one's name.
"""

import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.dataset.store import store, utf8_connection

SIDE_FILES = ("", ".wal", ".wal.checkpoint", ".wal.recovery", ".tmp")
BATCH = 256


def erase_rows(path: Path, names: Collection[str]) -> int:
    """Remove the rows `names` from the store at `path` for good; how many there were.

    The old file stays whole until the new one is synced and takes its name.
    """
    import duckdb

    if not path.exists():
        return 0
    with files.lock_file(path.with_name(path.name + ".lock"), str(path)):
        fresh = path.with_name(path.name + ".new")
        store.remove_store_leftovers(path)
        try:
            _fold_wal(path)
            count = _copy(path, fresh, names)
        except duckdb.Error as error:
            if fault := utf8_connection.not_utf8_error(path, error):
                raise fault from error
            raise SemError(
                f"{path}: not rewritten: {' '.join(str(error).split())[:200]}",
                "the old file is whole; free space, then run the same command again",
            ) from error
        files.move_into_place(fresh, path)
        store.remove_store_leftovers(path)
    return count


def _fold_wal(path: Path) -> None:
    """Bring into the file what a killed writer left in its .wal, or the copy would lack it."""
    connection = store.open_for_writing(path)
    try:
        connection.execute("CHECKPOINT")
    finally:
        connection.close()


def _copy(old: Path, new: Path, names: Collection[str]) -> int:
    """Write the rows of `old` that are not `names` to `new`; how many stayed behind."""
    table, folder = store.table_name(), new.with_name(new.name + ".tmp")
    folder.mkdir()
    connection = _between(old, folder)
    try:
        connection.execute(f"ATTACH {_quoted(old)} AS old (READ_ONLY)")
        connection.execute("CREATE TEMP TABLE gone (id VARCHAR PRIMARY KEY)")
        if names:
            connection.executemany("INSERT INTO gone VALUES (?)", [[n] for n in sorted(names)])
        listed: list[dict[str, Any]] = []
        for name, sql in _tables(connection):
            packed = folder / f"{len(listed)}.parquet"
            condition = (
                " WHERE id IS NULL OR id::VARCHAR NOT IN (FROM gone)" if name == table else ""
            )
            query = f'SELECT * FROM old."{name}"{condition}'  # noqa: S608 - a checked name
            connection.execute(f"COPY ({query}) TO {_quoted(packed)} (FORMAT parquet)")
            listed.append({"name": name, "sql": sql, "rows": str(packed)})
        before = connection.execute(f'SELECT count(*) FROM old."{table}"').fetchone()[0]  # noqa: S608
    finally:
        connection.close()
    after = _written(new, listed)[table]
    shutil.rmtree(folder)
    return before - after


def _written(new: Path, listed: list[dict[str, str]]) -> dict[str, int]:
    """Return rows of each table of `new`, which a process of its own has written from `listed`."""
    request = {
        "path": str(new),
        "config": store.CLOSED,
        "tables": listed,
        "version": store.STORAGE_VERSION,
    }
    # -I: neither this folder nor the environment decides what the program imports.
    process = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).with_name("fresh_store.py"))],
        input=jsonio.canonical_json(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise utf8_connection.not_utf8_error(new.with_suffix(""), last) or SemError(
            f"{new}: not written: {last[:200]}",
            "the old file is whole; free space, then run the same command again",
        )
    return jsonio.parse_json(process.stdout)


def _between(old: Path, folder: Path) -> Any:
    """Return a connection that may read `old` and write into `folder`, and nothing else."""
    closed = {k: v for k, v in store.CLOSED.items() if k != "enable_external_access"}
    connection = utf8_connection.open_utf8_connection(":memory:", config=closed)
    allowed = [old.with_name(old.name + end) for end in SIDE_FILES]
    connection.execute(f"SET allowed_paths = [{', '.join(map(_quoted, allowed))}]")
    connection.execute(f"SET allowed_directories = [{_quoted(folder)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _tables(connection: Any) -> list[tuple[str, str]]:
    """Return name and CREATE statement of every table of the old file."""
    rows = connection.execute(
        "SELECT table_name, sql FROM duckdb_tables() WHERE database_name = 'old' ORDER BY 1"
    ).fetchall()
    if any('"' in name for name, _ in rows):
        raise SemError(f"a table name holds a quote: {rows!r}", "rename that table in the store")
    return rows


def store_texts(path: Path) -> Iterator[str]:
    """Yield every value of every table in the DuckDB file at `path` as text."""
    import duckdb

    try:
        connection = store.connect_read_only(path)
        query = "SELECT table_name FROM duckdb_tables() WHERE NOT internal"
        for (name,) in connection.execute(query).fetchall():
            quoted = name.replace('"', '""')
            cursor = connection.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{quoted}"')  # noqa: S608
            while batch := cursor.fetchmany(BATCH):
                yield from (value for row in batch for value in row if value)
        connection.close()
    except duckdb.Error as error:
        raise store.explain_duckdb_error(path, error) from error
