"""DuckDB connections that raise duckdb.Error for text that is not UTF-8.

DuckDB believes the names and values of a file. Where one is not UTF-8, its Python binding raises
RuntimeError from `description`, UnicodeDecodeError from a struct or from an error message that
names it, and duckdb.Error elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sem.core.errors import SemError

NOT_UTF8 = "a name or value is not UTF-8"
# How DuckDB words it, and how its binding and its JSON reader do.
WORDINGS = (NOT_UTF8, "Invalid unicode", "not valid UTF8", "invalid UTF-8", "not utf8 encoded")


class Utf8Connection:
    """A DuckDB connection, or a cursor of one, that hands out text or raises duckdb.Error."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, query: str, values: Sequence[Any] = ()) -> "Utf8Connection":
        with _text_faults():
            return Utf8Connection(self._connection.execute(query, list(values)))

    def executemany(self, query: str, values: Sequence[Any]) -> None:
        with _text_faults():
            self._connection.executemany(query, values)

    @property
    def description(self) -> list[tuple[Any, ...]]:
        with _text_faults():
            return list(self._connection.description)

    def fetchone(self) -> Any:
        with _text_faults():
            return self._connection.fetchone()

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        with _text_faults():
            return list(self._connection.fetchmany(size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        with _text_faults():
            return list(self._connection.fetchall())

    def cursor(self) -> "Utf8Connection":
        return Utf8Connection(self._connection.cursor())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "Utf8Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_utf8_connection(database: str, **options: Any) -> Utf8Connection:
    """Return a connection to `database`, a path or `:memory:`; `options` are duckdb.connect's."""
    import duckdb

    with _text_faults():
        return Utf8Connection(duckdb.connect(database, **options))


@contextmanager
def _text_faults() -> Iterator[None]:
    import duckdb

    try:
        yield
    except UnicodeDecodeError as error:
        raise duckdb.InvalidInputException(NOT_UTF8) from error
    except RuntimeError as error:
        # `nanobind::str(): conversion error!`, and no other fault of the binding.
        if "nanobind::str" not in str(error):
            raise
        raise duckdb.InvalidInputException(NOT_UTF8) from error


def fetch_rows(
    connection: Utf8Connection,
    query: str,
    values: Sequence[Any],
    size: int,
    explain: Callable[[Exception], SemError],
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of `query`, fetched `size` at a time; raise `explain` of a DuckDB error.

    Explained here, or whoever writes the rows to another store takes the error for its own.
    """
    import duckdb

    try:
        cursor = connection.execute(query, values)
        while batch := cursor.fetchmany(size):
            yield from batch
    except duckdb.Error as error:
        raise explain(error) from error


def not_utf8_error(path: Path, error: object) -> SemError | None:
    """Return what to say of `error` on the file at `path` when its text is not UTF-8, else None.

    DuckDB's own words are left out: they quote the value.
    """
    if any(wording in str(error) for wording in WORDINGS):
        return broken_text_error(path, "the name of a column or table, or a value,")
    return None


def broken_text_error(path: Path, place: str) -> SemError:
    """Return what to say of a text at `place` in the file at `path` that is not UTF-8."""
    return SemError(
        f"{path}: {place} is not UTF-8 text",
        "copy the file again if it was damaged on the way, or write it again with its text as "
        "UTF-8",
    )
