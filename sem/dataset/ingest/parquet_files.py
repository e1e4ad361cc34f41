"""Parquet files of others as dicts: the second door to DuckDB, which reads one file and no other.

A 2.6 MB file can say 200 million rows, and its own metadata calls that 2.4 MB; so rows times
columns is asked before anything is read, and what was read is weighed while it comes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.dataset.ingest.readers import MAX_RATIO
from sem.dataset.store import utf8_connection

BATCH = 64
MIN_CAP = 1 << 28
# a small file that makes much is a bomb; a large one is read as it is.
SUSPECT = 1 << 26
VECTOR = 2_048
MOST_VECTOR = 200 << 20
# Bytes a cell takes at least.
CELL = 8
# a vector of 2,048 pages is 128 MB.
MEMORY = "512MB"


@contextmanager
def open_parquet(path: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """The rows of the Parquet file at `path` as dicts; nothing but that file can be read."""
    import duckdb

    config = {"threads": "1", "memory_limit": MEMORY}
    connection = utf8_connection.open_utf8_connection(":memory:", config=config)
    try:
        # Settings take no parameters; a quote in the name must not end the literal.
        quoted = str(path.resolve()).replace("'", "''")
        connection.execute(f"SET allowed_paths = ['{quoted}']")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        # No row yet: executing already reads the first 2,048 of them.
        cursor = connection.execute("SELECT * FROM read_parquet(?) LIMIT 0", [str(path.resolve())])
        # Of the connection: the next query replaces it.
        columns = cursor.description
        names = [column[0] for column in columns]
        limit = max(MIN_CAP, MAX_RATIO * path.stat().st_size)
        _check_rows(connection, path, len(names), limit)
        if path.stat().st_size < SUSPECT:
            _check_vectors(connection, path, columns)
        rows = utf8_connection.fetch_rows(
            connection,
            "SELECT * FROM read_parquet(?)",
            [str(path.resolve())],
            BATCH,
            partial(_explained, path),
        )
        yield _weighed(rows, names, path, limit)
    except duckdb.Error as error:
        raise _explained(path, error) from error
    finally:
        connection.close()


def _explained(path: Path, error: Exception) -> SemError:
    return utf8_connection.not_utf8_error(path, error) or SemError(
        f"{path}: not usable Parquet: {' '.join(str(error).split())[:200]}", "copy the file again"
    )


def _check_rows(connection: Any, path: Path, columns: int, limit: int) -> None:
    query = "SELECT num_rows FROM parquet_file_metadata(?)"
    rows = connection.execute(query, [str(path.resolve())]).fetchone()[0]
    query = "SELECT sum(total_uncompressed_size) FROM parquet_metadata(?)"
    size = connection.execute(query, [str(path.resolve())]).fetchone()[0] or 0
    if not 0 <= size <= limit:
        raise SemError(
            f"{path}: unpacks to {int(size):,} bytes from {path.stat().st_size:,}",
            "if you trust it, convert it to JSON lines yourself",
        )
    if not 0 <= rows * max(1, columns) * CELL <= limit:
        raise SemError(
            f"{path}: says {rows:,} rows of {columns} columns in {path.stat().st_size:,} bytes",
            "if you trust it, convert it to JSON lines yourself",
        )


def _check_vectors(connection: Any, path: Path, columns: Any) -> None:
    """Refuse what does not fit into memory 2,048 rows at a time, which is how DuckDB reads.

    A dictionary holds a text once, however often the rows repeat it, and so does this query.
    """
    texts = [
        f'coalesce(octet_length("{name}"::BLOB), 0)'
        if kind == "BLOB"
        else f'coalesce(strlen("{name}"), 0)'
        for name, kind in ((c[0].replace('"', '""'), str(c[1])) for c in columns)
        if kind in ("VARCHAR", "BLOB")
    ]
    if not texts:
        return
    query = (
        f"SELECT max(bytes) FROM (SELECT sum({' + '.join(texts)}) AS bytes "  # noqa: S608
        f"FROM read_parquet(?, file_row_number = true) GROUP BY file_row_number // {VECTOR})"
    )
    most = connection.execute(query, [str(path.resolve())]).fetchone()[0] or 0
    if most > MOST_VECTOR:
        raise SemError(
            f"{path}: {VECTOR:,} of its rows take {int(most):,} bytes",
            "convert it to JSON lines, which are read one by one",
        )


def _weighed(
    rows: Iterator[tuple[Any, ...]], names: list[str], path: Path, limit: int
) -> Iterator[dict[str, Any]]:
    budget = limit
    for row in rows:
        budget -= sum(map(_weight, row))
        if budget < 0:
            raise SemError(
                f"{path}: unpacks to more than {MAX_RATIO} times its size",
                "if you trust it, convert it to JSON lines yourself",
            )
        yield dict(zip(names, row, strict=True))


def _weight(value: Any) -> int:
    if isinstance(value, str | bytes | bytearray):
        return len(value) + CELL
    if isinstance(value, dict):
        return CELL + sum(map(_weight, value.values()))
    return CELL + sum(map(_weight, value)) if isinstance(value, list) else CELL
