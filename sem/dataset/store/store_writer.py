"""The store's own version, and changes of single rows; a door to DuckDB beside `store`.

A store without the table `schema_meta` is of version 1. Steps are in STEPS, each from one version
to the next, all of them in one transaction.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.dataset.store import examples_table, store, utf8_connection
from sem.dataset.store.examples_table import RawRow


@dataclass(frozen=True)
class RowChange:
    """A row's new reference and metadata, as JSON text."""

    id: str
    reference: str
    metadata: str


def _say_version(connection: Any) -> None:
    """1 to 2: the store says of which version it is."""
    connection.execute(examples_table.SCHEMA_META)
    connection.execute("INSERT INTO schema_meta SELECT 1 WHERE NOT EXISTS (FROM schema_meta)")


# The n-th leads to version n + 2.
STEPS: tuple[Callable[[Any], None], ...] = (_say_version,)
CURRENT = 1 + len(STEPS)


def store_version(path: Path) -> int:
    """Return the version of the store at `path`; raise SemError when a newer Sem wrote it."""
    import duckdb

    connection = store.connect_read_only(path)
    try:
        version = _version(connection)
    except duckdb.Error as error:
        raise store.explain_duckdb_error(path, error) from error
    finally:
        connection.close()
    if version > CURRENT:
        raise SemError(
            f"{path}: the store has version {version}, this Sem supports {CURRENT}",
            "use the Sem that wrote it, or a newer one",
        )
    return version


def _version(connection: Any) -> int:
    query = "SELECT 1 FROM information_schema.tables WHERE table_name = 'schema_meta'"
    if connection.execute(query).fetchone() is None:
        return 1
    return int(connection.execute("SELECT max(version) FROM schema_meta").fetchone()[0] or 1)


def upgrade_store(path: Path) -> list[str]:
    """Bring the store at `path` to CURRENT; what each step did, none when it was there."""
    if store_version(path) == CURRENT:
        return []
    descriptions = []

    def act(connection: Any) -> None:
        for number in range(_version(connection), CURRENT):
            STEPS[number - 1](connection)
            connection.execute("UPDATE schema_meta SET version = ?", [number + 1])
            descriptions.append((STEPS[number - 1].__doc__ or "").strip())

    _within(path, act)
    return descriptions


def update_store_rows(path: Path, changes: Iterable[RowChange]) -> int:
    """Give rows of the store at `path` their `changes`, all or none; how many there were."""
    values = [[change.reference, change.metadata, change.id] for change in changes]

    def act(connection: Any) -> None:
        connection.executemany(
            "UPDATE examples SET response_strong = ?, metadata = ? WHERE id = ?", values
        )

    if values:
        _within(path, act)
    return len(values)


@dataclass(frozen=True)
class OriginCounts:
    """What became of the rows of one origin."""

    added: int = 0
    unchanged: int = 0
    replaced: int = 0
    removed: int = 0


def replace_origin_rows(path: Path, rows: Iterable[RawRow], origin: str) -> OriginCounts:
    """Make `rows` the only ones of `origin` in the store at `path`, in one transaction.

    A row's origin is `reference_source` in its metadata. Rows of other origin stay as they are;
    one with the id of a new row is a SemError. A store that holds just `rows` is not touched.
    """
    fresh = {str(row.id): row for row in rows}
    if not path.exists():
        return OriginCounts(
            added=store.append_store_rows(path, fresh.values()).added if fresh else 0
        )
    connection = store.connect_read_only(path)
    try:
        old = _of_origin(connection, path, origin)
    finally:
        connection.close()
    same = {name for name, row in fresh.items() if old.get(name) == row.columns()}
    changed = [row for name, row in fresh.items() if name in old and name not in same]
    added = [row for name, row in fresh.items() if name not in old]
    stale_ids = sorted(old.keys() - fresh.keys())

    def act(connection: Any) -> None:
        if stale_ids:
            names = [[name] for name in stale_ids]
            connection.executemany("DELETE FROM examples WHERE id = ?", names)
        store.insert_rows(connection, path, changed, "replace")
        store.insert_rows(connection, path, added, "error")

    if stale_ids or changed or added:
        _within(path, act)
    return OriginCounts(len(added), len(same), len(changed), len(stale_ids))


def count_other_origins(path: Path, origin: str) -> int:
    """Return how many rows of the store at `path` are of another origin than `origin`.

    0 without a store.
    """
    if not path.exists():
        return 0
    import duckdb

    connection = store.connect_read_only(path)
    try:
        query = (
            "SELECT count(*) FROM examples WHERE "
            "json_extract_string(metadata, '$.reference_source') IS DISTINCT FROM ?"
        )
        return int(connection.execute(query, [origin]).fetchone()[0])
    except duckdb.Error as error:
        raise store.explain_duckdb_error(path, error) from error
    finally:
        connection.close()


def _of_origin(connection: Any, path: Path, origin: str) -> dict[str, tuple[Any, ...]]:
    """id -> columns of every row of `origin`."""
    import duckdb

    select_list = ", ".join(f"{name}::VARCHAR" for name in examples_table.COLUMNS)
    query = (
        f"SELECT {select_list} FROM examples "  # noqa: S608 - our names
        "WHERE json_extract_string(metadata, '$.reference_source') = ?"
    )
    try:
        return {row[0]: row for row in connection.execute(query, [origin]).fetchall()}
    except duckdb.Error as error:
        raise store.explain_duckdb_error(path, error) from error


def _within(path: Path, act: Callable[[Any], None]) -> None:
    """Let `act` work in one transaction on the store at `path`, alone."""
    import duckdb

    with files.lock_file(path.with_name(path.name + ".lock"), str(path)):
        connection = store.open_for_writing(path)
        try:
            connection.execute("BEGIN")
            act(connection)
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            if fault := utf8_connection.not_utf8_error(path, error):
                raise fault from error
            raise SemError(
                f"{path}: not changed: {' '.join(str(error).split())[:200]}",
                "the rows are as before; free space or correct the input, then run again",
            ) from error
        finally:
            connection.close()
