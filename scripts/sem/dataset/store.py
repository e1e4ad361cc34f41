"""The only door to DuckDB: the table `examples`, read untrusted and written in one transaction.

A received file can hide a VIEW called `examples` that reads local files when it is selected
from, so files are opened read-only, without external access, with their settings locked.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError, nearest
from sem.core.example import SPELLINGS

TABLE = "examples"
# DuckDB 1.2 and later can read what is written here; 2.0's own default locks 1.x out.
STORAGE_VERSION = "v1.2.0"
SCHEMA = (
    "CREATE TABLE examples (id VARCHAR PRIMARY KEY, task VARCHAR, prompt_text VARCHAR, "
    "response_strong JSON, metadata JSON, slot_specs JSON, system_prompt VARCHAR)"
)
COLUMNS = (
    "id",
    "task",
    "prompt_text",
    "response_strong",
    "metadata",
    "slot_specs",
    "system_prompt",
)
# Field of a raw row -> columns that may hold it, the first present one wins.
FIELDS: dict[str, tuple[str, ...]] = {
    "id": ("id", "example_id"),
    "task": ("task", "task_id"),
    "page_type": ("page_type",),
    "input_text": SPELLINGS["input_text"],
    "reference": (SPELLINGS["output_json"][1], *SPELLINGS["output_json"]),
    "metadata": ("metadata", "meta"),
    "slot_specs": ("slot_specs",),
    "system_prompt": ("system_prompt",),
    "source_id": ("source_id",),
}
NEEDED = ("id", "input_text", "reference")
BATCH = 64
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True)
class RawRow:
    """One row as stored: JSON columns are still text, anything may be missing."""

    id: str | None
    task: str | None = None
    page_type: str | None = None
    input_text: str | None = None
    reference: str | None = None
    metadata: str | None = None
    slot_specs: str | None = None
    system_prompt: str | None = None
    source_id: str | None = None


@dataclass(frozen=True)
class Store:
    """An open store: its path, the columns that will be read, and how many rows it has."""

    path: Path
    columns: dict[str, str]  # field -> SQL expression
    count: int
    connection: Any

    def rows(self, batch: int = BATCH) -> Iterator[RawRow]:
        """Every row, ordered by id; memory holds the ids and one BATCH of rows."""
        # Sorting whole rows would spill gigabytes of HTML; ids alone fit in memory.
        key = self.columns["id"]
        order = self.connection.execute(
            f"SELECT rowid FROM {TABLE} ORDER BY {key} NULLS FIRST, rowid"  # noqa: S608
        ).fetchnumpy()["rowid"]
        for start in range(0, len(order), batch):
            yield from self._fetch([int(number) for number in order[start : start + batch]])

    def _fetch(self, numbers: Sequence[int]) -> list[RawRow]:
        chosen = ", ".join(self.columns.values())
        listed = ", ".join(str(number) for number in numbers)
        found = self.connection.execute(
            f"SELECT rowid, {chosen} FROM {TABLE} WHERE rowid IN ({listed})"  # noqa: S608
        ).fetchall()
        names = list(self.columns)
        rows = {row[0]: RawRow(**dict(zip(names, row[1:], strict=True))) for row in found}
        return [rows[number] for number in numbers]


@contextmanager
def reading(path: Path) -> Iterator[Store]:
    """The store at PATH, opened read-only; SemError when it is not one or has no rows."""
    connection = _connect(path)
    try:
        columns = _columns(connection, path)
        count = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()[0]  # noqa: S608
        if not count:
            raise SemError(f"{path}: table {TABLE!r} has no rows", "add some: `fab dataset.import`")
        yield Store(path, columns, count, connection)
    finally:
        connection.close()


@contextmanager
def parquet(path: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """The rows of the Parquet file at PATH as dicts; nothing but that file can be read."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": "1", "memory_limit": "1GB"})
    try:
        connection.execute("SET allowed_paths = [$path]", {"path": str(path.resolve())})
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path.resolve())])
        names = [column[0] for column in found.description]
        yield _records(found, names, path)
    except duckdb.Error as error:
        raise SemError(
            f"{path}: not usable Parquet: {' '.join(str(error).split())[:200]}",
            "copy the file again",
        ) from error
    finally:
        connection.close()


def _records(found: Any, names: list[str], path: Path) -> Iterator[dict[str, Any]]:
    while batch := found.fetchmany(BATCH):
        for row in batch:
            yield dict(zip(names, row, strict=True))


def _connect(path: Path) -> Any:
    import duckdb

    if not path.is_file():
        raise SemError(
            f"{path}: no such store", "make it with `fab dataset.import` or `fab demo.data`"
        )
    try:
        return duckdb.connect(
            str(path),
            read_only=True,
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "lock_configuration": "true",
                "threads": "2",
            },
        )
    except duckdb.Error as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: Exception) -> SemError:
    text = " ".join(str(error).split())
    if "lock" in text.lower():
        holder = re.search(r"PID (\d+)", text)
        who = f"process {holder[1]}" if holder else "another process"
        return SemError(f"{path}: {who} is writing this store", "wait for it, then run again")
    return SemError(
        f"{path}: cannot be opened as a DuckDB store: {text[:200]}",
        "check that the file is whole, and copy it again together with its .wal",
    )


def _columns(connection: Any, path: Path) -> dict[str, str]:
    kinds = dict(
        connection.execute(
            "SELECT table_name, table_type FROM information_schema.tables "
            "WHERE table_schema = 'main'"
        ).fetchall()
    )
    if kinds.get(TABLE) != "BASE TABLE":
        found = f"is a {kinds[TABLE]}" if TABLE in kinds else "is missing"
        raise SemError(f"{path}: table {TABLE!r} {found}", "a store holds one plain table of rows")
    types = dict(
        connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE table_name = ? AND schema_name = 'main'",
            [TABLE],
        ).fetchall()
    )
    chosen = {}
    for name, spellings in FIELDS.items():
        column = next((s for s in spellings if s in types), None)
        if column is not None:
            chosen[name] = _as_text(column, types[column])
    for name in NEEDED:
        if name not in chosen:
            wanted = " | ".join(FIELDS[name])
            raise SemError(
                f"{path}: table {TABLE!r} has no column {FIELDS[name][0]!r}",
                f"{nearest(FIELDS[name][0], types)}, or rename a column to {wanted}",
            )
    return chosen


def _as_text(column: str, kind: str) -> str:
    """SQL that reads COLUMN, one of ours by name, as text whatever its type."""
    assert IDENTIFIER.fullmatch(column)
    if kind in ("VARCHAR", "JSON"):
        return f'"{column}"::VARCHAR'
    if kind.startswith(("STRUCT", "MAP")) or kind.endswith("]"):
        return f'to_json("{column}")::VARCHAR'
    return f'"{column}"::VARCHAR'


@dataclass(frozen=True)
class Appended:
    """What an import did to the store."""

    added: int
    already_there: int
    replaced: int
    skipped: int


def append(
    path: Path,
    rows: Iterable[RawRow],
    on_conflict: str = "error",
    check: Callable[[], None] | None = None,
) -> Appended:
    """Add ROWS to the store at PATH in one transaction: all of them or none.

    A row whose id is there with the same content counts as already there; with other content
    ON_CONFLICT says 'error' (SemError), 'skip' or 'replace'. CHECK may still refuse at the end.
    """
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    with files.lock(path.with_name(path.name + ".lock"), str(path)):
        connection = _open_for_writing(path)
        try:
            connection.execute("BEGIN")
            done = _insert(connection, path, rows, on_conflict)
            if check is not None:
                check()
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
            return done
        except duckdb.Error as error:
            raise SemError(
                f"{path}: not written: {' '.join(str(error).split())[:200]}",
                "the rows from before are all there; free space or correct the input",
            ) from error
        finally:
            connection.close()


def _open_for_writing(path: Path) -> Any:
    import duckdb

    try:
        connection = duckdb.connect(
            str(path),
            config={
                "storage_compatibility_version": STORAGE_VERSION,
                "enable_external_access": "false",
                "autoload_known_extensions": "false",
                "threads": "2",
            },
        )
    except duckdb.Error as error:
        raise _explained(path, error) from error
    tables = connection.execute(
        "SELECT table_type FROM information_schema.tables WHERE table_name = ?", [TABLE]
    ).fetchall()
    if not tables:
        connection.execute(SCHEMA)
    elif tables != [("BASE TABLE",)]:
        connection.close()
        raise SemError(f"{path}: {TABLE!r} is not a plain table", "move the file away")
    return connection


def _insert(connection: Any, path: Path, rows: Iterable[RawRow], on_conflict: str) -> Appended:
    counts = dict.fromkeys(("added", "already_there", "replaced", "skipped"), 0)
    for batch in batched(rows, BATCH):
        fresh: dict[str, tuple[Any, ...]] = {}
        there = _existing(connection, [row.id for row in batch])
        for row in batch:
            values = _values(row)
            old = fresh.get(values[0]) or there.get(values[0])
            outcome = _outcome(path, old, values, on_conflict)
            counts[outcome] += 1
            if outcome in ("added", "replaced"):
                fresh[values[0]] = values
        _write(connection, list(fresh.values()))
    return Appended(**counts)


def _outcome(path: Path, old: Any, new: tuple[Any, ...], on_conflict: str) -> str:
    if old is None:
        return "added"
    if old == new:
        return "already_there"
    if on_conflict == "error":
        raise SemError(
            f"{path}: id {new[0]!r} is there with other content",
            "nothing was imported; choose with --on-conflict skip or --on-conflict replace",
        )
    return "skipped" if on_conflict == "skip" else "replaced"


def _existing(connection: Any, ids: Sequence[str | None]) -> dict[str, tuple[Any, ...]]:
    marks = ", ".join("?" for _ in ids)
    chosen = ", ".join(f"{name}::VARCHAR" for name in COLUMNS)
    found = connection.execute(
        f"SELECT {chosen} FROM {TABLE} WHERE id IN ({marks})",  # noqa: S608
        list(ids),
    ).fetchall()
    return {row[0]: row for row in found}


def _write(connection: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    marks = ", ".join(["(" + ", ".join("?" for _ in COLUMNS) + ")"] * len(rows))
    connection.execute(
        f"INSERT OR REPLACE INTO {TABLE} ({', '.join(COLUMNS)}) VALUES {marks}",  # noqa: S608
        [value for row in rows for value in row],
    )


def _values(row: RawRow) -> tuple[Any, ...]:
    return (
        row.id,
        row.task,
        row.input_text,
        row.reference,
        row.metadata,
        row.slot_specs,
        row.system_prompt,
    )


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """ITEMS in lists of SIZE, the last one shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def shared_domains(train: Path, split: Path) -> tuple[list[str], int, int, str]:
    """Domains in both JSONL parts, domains in TRAIN, in SPLIT, and the query that found them."""
    import duckdb

    parts = "SELECT DISTINCT json->'meta'->>'domain' AS domain FROM read_ndjson_objects('{}')"
    query = parts.format(train.name) + " INTERSECT " + parts.format(split.name)
    with duckdb.connect(":memory:") as connection:
        found = [
            {row[0] for row in connection.execute(parts.replace("'{}'", "?"), [str(path)]).fetchall()}
            for path in (train, split)
        ]
        both = connection.execute(
            query.replace(f"'{train.name}'", "?").replace(f"'{split.name}'", "?"),
            [str(train), str(split)],
        ).fetchall()
    shared = sorted(row[0] for row in both if row[0])
    return shared, len(found[0] - {None, ""}), len(found[1] - {None, ""}), query
