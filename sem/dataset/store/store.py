"""The door to DuckDB: the table `examples`, read untrusted and written in one transaction.

A received file can hide a VIEW called `examples` that reads local files when it is selected
from, so files are opened read-only, without external access, with their settings locked.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import Busy, SemError, suggest_nearest_name
from sem.dataset.store import examples_table, utf8_connection
from sem.dataset.store.examples_table import (
    CAPTURE,
    COLUMNS,
    FIELDS,
    NEEDED,
    Appended,
    RawRow,
    batch_items,
)

# DuckDB 1.2 and later can read what is written here; 2.0's own default locks 1.x out.
STORAGE_VERSION = "v1.2.0"
BATCH = 64
CLOSED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "threads": "1",
    # a vector of 2,048 pages is 128 MB; the rest is cache.
    "memory_limit": "768MB",
}


@dataclass(frozen=True)
class Store:
    """An open store: its path, the columns that will be read, and how many rows it has."""

    path: Path
    table: str
    # Field -> SQL expression.
    columns: dict[str, str]
    count: int
    connection: Any

    def rows(self, only: Sequence[str] = ()) -> Iterator[RawRow]:
        """Yield every row, or those with the ids `only`, as stored.

        Sorting pages spills gigabytes.
        """
        names, select_list = list(self.columns), ", ".join(self.columns.values())
        query = f"SELECT {select_list} FROM {self.table}"  # noqa: S608 - checked names
        if only:
            query += f" WHERE {self.columns['id']} IN ({', '.join('?' for _ in only)})"
        # DuckDB streams this; it holds one vector of 2,048 rows, whatever the store's size.
        for row in utf8_connection.fetch_rows(self.connection, query, only, BATCH, self.explained):
            values = dict(zip(names, row, strict=True))
            # What DuckDB writes of an object with a text that is not UTF-8.
            if values.get("capture") == "":
                raise self.explained(utf8_connection.NOT_UTF8)
            yield RawRow(**values)

    def explained(self, error: object) -> SemError:
        """Return what to say of DuckDB's `error` on this store.

        For a text that is not UTF-8 it names the first row and column, where they can be found.
        """
        import duckdb

        if utf8_connection.not_utf8_error(self.path, error) is None:
            return explain_duckdb_error(self.path, error)
        for name, column in self.columns.items():
            broken = f"{column} IS NOT NULL AND try(decode(encode({column}))) IS NULL"
            if name == "capture":
                broken = f"{column} = ''"
            query = f"SELECT {self.columns['id']} FROM {self.table} WHERE {broken} LIMIT 1"  # noqa: S608
            # The id itself may be what is not UTF-8.
            with suppress(duckdb.Error):
                if row := self.connection.execute(query).fetchone():
                    return utf8_connection.broken_text_error(
                        self.path, f"row {row[0]!r}: its {name}"
                    )
        return explain_duckdb_error(self.path, error)

    def ids(self) -> Iterator[str]:
        """Yield the id of every row."""
        query = f"SELECT {self.columns['id']} FROM {self.table}"  # noqa: S608 - checked names
        for row in utf8_connection.fetch_rows(self.connection, query, (), 2_048, self.explained):
            yield row[0]


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """The store at `path`, opened read-only; raise SemError when it is not one or has no rows."""
    import duckdb

    table, connection = table_name(), connect_read_only(path)
    try:
        columns = _columns(connection, path, table)
        count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        if not count:
            raise SemError(
                f"{path}: table {table!r} has no rows", "add some: `fab dataset.import`"
            )
        yield Store(path, table, columns, count, connection)
    except duckdb.Error as error:
        raise explain_duckdb_error(path, error) from error
    finally:
        connection.close()


def table_name() -> str:
    """Return the table of examples: $DATASET_DB_TABLE, by default `examples`."""
    name = os.environ.get("DATASET_DB_TABLE") or "examples"
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
        raise SemError(f"DATASET_DB_TABLE {name!r} is not a table name", "use letters, digits, _")
    return name


def connect_read_only(path: Path) -> Any:
    """Return a read-only connection to the store at `path`.

    Raise SemError when it cannot be opened.
    """
    import duckdb

    if not path.is_file():
        raise SemError(
            f"{path}: no such store", "make it with `fab dataset.import` or `fab demo.data`"
        )
    try:
        return utf8_connection.open_utf8_connection(
            str(path), read_only=True, config={**CLOSED, "lock_configuration": "true"}
        )
    except duckdb.Error as error:
        raise explain_duckdb_error(path, error) from error


def explain_duckdb_error(path: Path, error: object) -> SemError:
    """Return what to say of DuckDB's `error` on the store at `path`."""
    if fault := utf8_connection.not_utf8_error(path, error):
        return fault
    text = " ".join(str(error).split())
    if "conflicting lock" in text.lower():
        holder = re.search(r"PID (\d+)", text)
        who = f"process {holder[1]}" if holder else "another process"
        return Busy(f"{path}: {who} is writing this store", "wait for it, then run again")
    if text.startswith("Out of Memory"):
        return SemError(
            f"{path}: 2,048 pages at a time do not fit into {CLOSED['memory_limit']}",
            "leave out pages beyond clean.max_bytes, or import the rows in parts",
        )
    return SemError(
        f"{path}: cannot be used as a DuckDB store: {text[:200]}",
        "check that the file is whole, and copy it again together with its .wal",
    )


def _columns(connection: Any, path: Path, table: str) -> dict[str, str]:
    _check_table(connection, path, table)
    types = dict(
        connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE table_name = ? AND schema_name = 'main'",
            [table],
        ).fetchall()
    )
    columns = {}
    for name, spellings in FIELDS.items():
        column = next((s for s in spellings if s in types), None)
        if column is not None:
            columns[name] = _as_text(column, types[column])
    for name in NEEDED:
        if name not in columns:
            raise SemError(
                f"{path}: table {table!r} has no column {FIELDS[name][0]!r}",
                f"it has {', '.join(sorted(types))[:200]}; "
                f"{suggest_nearest_name(FIELDS[name][0], types)}",
            )
    captured = [column for column in CAPTURE if column in types]
    if captured:
        pairs = ", ".join(f"'{column}', \"{column}\"" for column in captured)
        columns["capture"] = f"json_object({pairs})::VARCHAR"
    return columns


def _check_table(connection: Any, path: Path, table: str) -> None:
    kinds = dict(
        connection.execute(
            "SELECT table_name, table_type FROM information_schema.tables "
            "WHERE table_schema = 'main'"
        ).fetchall()
    )
    if kinds.get(table) != "BASE TABLE":
        fault = f"is a {kinds[table]}" if table in kinds else "is missing"
        raise SemError(
            f"{path}: table {table!r} {fault}", "name a store with one plain table of rows"
        )


def _as_text(column: str, kind: str) -> str:
    """SQL that reads `column`, one of ours by name, as text whatever its type."""
    if kind.startswith(("STRUCT", "MAP")) or kind.endswith("]"):
        return f'to_json("{column}")::VARCHAR'
    return f'"{column}"::VARCHAR'


@contextmanager
def store_records(path: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """Every row of the table at `path` with all its columns, for a mapping to choose from."""
    import duckdb

    table, connection = table_name(), connect_read_only(path)
    try:
        _check_table(connection, path, table)
        query = f"SELECT * FROM {table}"  # noqa: S608 - a checked name
        names = [column[0] for column in connection.execute(f"{query} LIMIT 0").description]
        rows = utf8_connection.fetch_rows(
            connection, query, (), BATCH, partial(explain_duckdb_error, path)
        )
        yield (dict(zip(names, row, strict=True)) for row in rows)
    except duckdb.Error as error:
        raise explain_duckdb_error(path, error) from error
    finally:
        connection.close()


def append_store_rows(path: Path, rows: Iterable[RawRow], on_conflict: str = "error") -> Appended:
    """Add `rows` to the store at `path` in one transaction: all of them or none.

    A row whose id is there with the same content counts as already there; with other content
    `on_conflict` says 'error' (SemError), 'skip' or 'replace'.
    """
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    with files.lock_file(path.with_name(path.name + ".lock"), str(path)):
        # A new store appears whole: one torn while its header is written opens never again.
        place = path if path.exists() else path.with_name(path.name + ".new")
        remove_store_leftovers(path)
        connection = open_for_writing(place)
        try:
            connection.execute("BEGIN")
            _ensure_table(connection, path)
            appended = insert_rows(connection, path, rows, on_conflict)
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            if fault := utf8_connection.not_utf8_error(path, error):
                raise fault from error
            is_full = isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException)
            way_out = "free space, then run again" if is_full else "correct that row"
            raise SemError(
                f"{path}: not written: {' '.join(str(error).split())[:200]}",
                f"the earlier rows are all still there; {way_out}",
            ) from error
        finally:
            connection.close()
        if place != path:
            files.move_into_place(place, path)
        return appended


def remove_store_leftovers(path: Path) -> None:
    """Remove what a killed writer of a store at `path` left beside it."""
    for name in (".tmp", ".new.tmp"):
        shutil.rmtree(path.with_name(path.name + name), ignore_errors=True)
    for name in (".new", ".new.wal"):
        path.with_name(path.name + name).unlink(missing_ok=True)


def open_for_writing(path: Path) -> Any:
    """Return a connection that may write the store at `path`, in the format of STORAGE_VERSION."""
    import duckdb

    config = {**CLOSED, "storage_compatibility_version": STORAGE_VERSION}
    try:
        return utf8_connection.open_utf8_connection(str(path), config=config)
    except duckdb.Error as error:
        raise explain_duckdb_error(path, error) from error


def _ensure_table(connection: Any, path: Path) -> None:
    query = "SELECT 1 FROM information_schema.tables WHERE table_name = 'examples'"
    if connection.execute(query).fetchone() is None:
        for statement in (
            examples_table.SCHEMA,
            examples_table.SCHEMA_META,
            examples_table.SCHEMA_VERSION,
        ):
            connection.execute(statement)
    _check_table(connection, path, "examples")


def insert_rows(connection: Any, path: Path, rows: Iterable[RawRow], on_conflict: str) -> Appended:
    """Add `rows` within the transaction of `connection`, to the store at `path`."""
    counts = vars(Appended()).copy()
    for batch in batch_items(rows, BATCH):
        fresh: dict[str, tuple[Any, ...]] = {}
        existing = _existing(connection, [row.id for row in batch])
        for row in batch:
            values = row.columns()
            old = fresh.get(values[0]) or existing.get(values[0])
            kind = examples_table.import_outcome(str(path), old, values, on_conflict)
            counts[kind] += 1
            if kind in ("added", "replaced"):
                fresh[values[0]] = values
        _write(connection, list(fresh.values()))
    return Appended(**counts)


def _existing(connection: Any, ids: Sequence[str | None]) -> dict[str, tuple[Any, ...]]:
    marks = ", ".join("?" for _ in ids)
    select_list = ", ".join(f"{name}::VARCHAR" for name in COLUMNS)
    query = f"SELECT {select_list} FROM examples WHERE id IN ({marks})"  # noqa: S608 - our names
    return {row[0]: row for row in connection.execute(query, list(ids)).fetchall()}


def _write(connection: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    import duckdb

    marks = ", ".join(["(" + ", ".join("?" for _ in COLUMNS) + ")"] * len(rows))
    try:
        _insert_all(connection, rows, marks)
    except duckdb.ConversionException as error:
        text = " ".join(str(error).split())
        raise duckdb.ConversionException(f"row {_misfit(connection, rows)!r}: {text}") from error


def _misfit(connection: Any, rows: Sequence[tuple[Any, ...]]) -> str:
    """Return the id of the first of `rows` with a value that is not JSON where JSON is stored."""
    import duckdb

    for row in rows:
        values = dict(zip(COLUMNS, row, strict=True))
        try:
            for name in ("response_strong", "metadata", "slot_specs"):
                connection.cursor().execute("SELECT ?::JSON", [values[name]])
        except duckdb.ConversionException:
            return str(values["id"])
    return "?"


def _insert_all(connection: Any, rows: Sequence[tuple[Any, ...]], marks: str) -> None:
    connection.execute(
        f"INSERT OR REPLACE INTO examples ({', '.join(COLUMNS)}) VALUES {marks}",  # noqa: S608
        [value for row in rows for value in row],
    )


def shared_domains(train: Path, split: Path) -> tuple[list[str], int, int, str]:
    """Domains in both JSONL parts, domains in `train`, in `split`, and the query that found
    them.
    """
    import duckdb

    template = "SELECT DISTINCT json->'meta'->>'domain' AS domain FROM read_ndjson_objects('{}')"
    part = template.replace("'{}'", "?")
    with duckdb.connect(":memory:") as connection:
        train_size, split_size = (
            len({row[0] for row in connection.execute(part, [str(path)]).fetchall()} - {None, ""})
            for path in (train, split)
        )
        both = connection.execute(f"{part} INTERSECT {part}", [str(train), str(split)]).fetchall()
    query = f"{template.format(train.name)} INTERSECT {template.format(split.name)}"
    return sorted(row[0] for row in both if row[0]), train_size, split_size, query
