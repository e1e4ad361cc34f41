"""Text in DuckDB's files that is not UTF-8 is one error that names the file."""

from dataclasses import replace

import bad_text
import duckdb
import pytest
from rowmaker import project, row

from sem.core.errors import SemError
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store, store_writer, utf8_connection
from sem.dataset.takedown import erase
from sem.preview.contribution import contribution

TABLE = store.examples_table.SCHEMA
NULLS = ", NULL" * 3
ROW = f"INSERT INTO examples VALUES ('a', 'product', 'page', '1'{NULLS})"
BAD_ROW = f"INSERT INTO examples VALUES ('a', 'product', 'a page, zzzzz', '1'{NULLS})"

OPTIONS = ImportOptions(task="product")
READERS = {
    "import": lambda made, path: importers.import_file(made, path, OPTIONS),
    "mapped import": lambda made, path: importers.import_file(
        made, path, replace(OPTIONS, columns={"input_text": "input_text"})
    ),
    "contribution": lambda made, path: contribution.read_contribution(path, 10, 0),
}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'page' AS input_text, '1' AS answer, 1 AS zzzzz",
        "SELECT 'zzzzz' AS input_text, '1' AS answer",
        "SELECT 'page' AS input_text, {'zzzzz': 1} AS answer",
        "SELECT 'page' AS input_text, {'a': ['x', 'zzzzz']} AS answer",
        "SELECT 'page' AS input_text, MAP {'zzzzz': 1} AS answer",
        # A value alone in a vector of its own, behind sound ones.
        "SELECT if(n = 5000, 'zzzzz', 'page') AS input_text, '1' AS answer FROM range(9000) t(n)",
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_parquet_that_is_not_utf_8_is_refused_whole_by_every_reader(tmp_path, query, reader):
    path = bad_text.write_parquet(tmp_path / "a.parquet", query)
    made = project(tmp_path)

    with pytest.raises(SemError) as caught:
        READERS[reader](made, path)

    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.message.endswith("is not UTF-8 text")
    assert "write it again" in caught.value.hint
    assert not made.store.exists()


STORES = {
    "a value": (TABLE, BAD_ROW),
    "a column nobody asks for": (TABLE, ROW, "ALTER TABLE examples ADD COLUMN zzzzz INTEGER"),
    "another table": (TABLE, ROW, "CREATE TABLE zzzzz (n INTEGER)"),
    "a field of a struct": (
        "CREATE TABLE examples AS SELECT 'a' AS id, 'page' AS input_text, {'zzzzz': 1} AS answer",
    ),
    "a label": (
        TABLE,
        ROW,
        "ALTER TABLE examples ADD COLUMN page_type ENUM('zzzzz') DEFAULT 'zzzzz'",
    ),
    # DuckDB makes an empty text of an object that holds it.
    "a captured text": (
        TABLE,
        ROW,
        "ALTER TABLE examples ADD COLUMN provider VARCHAR",
        "UPDATE examples SET provider = 'zzzzz'",
    ),
}


@pytest.mark.parametrize("columns", [{}, {"input_text": "prompt_text"}], ids=["plain", "mapped"])
@pytest.mark.parametrize("kind", STORES)
def test_a_store_that_is_not_utf_8_is_refused_whole(tmp_path, kind, columns):
    if kind == "a field of a struct" and columns:
        columns = {"input_text": "input_text"}
    path = bad_text.write_store(tmp_path / "a.duckdb", *STORES[kind])
    made = project(tmp_path)

    with pytest.raises(SemError, match="is not UTF-8 text") as caught:
        importers.import_file(made, path, ImportOptions(task="product", columns=columns))

    assert str(path) in caught.value.message
    assert not made.store.exists()


@pytest.mark.parametrize(
    ("kind", "place"),
    [("a value", "row 'a': its input_text"), ("a captured text", "row 'a': its capture")],
)
def test_a_row_of_a_store_that_is_not_utf_8_is_named(tmp_path, kind, place):
    path = bad_text.write_store(tmp_path / "a.duckdb", *STORES[kind])

    with pytest.raises(SemError) as caught, store.open_store(path) as opened:
        list(opened.rows())

    assert caught.value.message == f"{path}: {place} is not UTF-8 text"


ACTS = {
    "append": lambda path: store.append_store_rows(path, [row("a")]),
    "update": lambda path: store_writer.upgrade_store(path),
    "erase": lambda path: erase.erase_rows(path, ["b"]),
    "scan": lambda path: list(erase.store_texts(path)),
}


@pytest.mark.parametrize("act", ACTS)
def test_whoever_works_on_a_store_that_is_not_utf_8_says_so_and_leaves_it(tmp_path, act):
    path = bad_text.write_store(tmp_path / "a.duckdb", *STORES["a value"])
    if act == "update":
        path.unlink()
        path = bad_text.write_store(path, *STORES["another table"])
    before = path.read_bytes()

    with pytest.raises(SemError, match="is not UTF-8 text"):
        ACTS[act](path)

    assert path.read_bytes() == before


def test_a_fault_of_who_reads_is_not_taken_for_one_of_the_store(tmp_path):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, [row("a")])

    with pytest.raises(UnicodeDecodeError), store.open_store(path):
        b"\xff".decode()


FETCHES = {
    "one": lambda connection, query: connection.execute(query).fetchone(),
    "many": lambda connection, query: connection.execute(query).fetchmany(9),
    "all": lambda connection, query: connection.execute(query).fetchall(),
}


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        # Each was a UnicodeDecodeError: a struct's field, and a name that a message suggests.
        ("a field of a struct", "SELECT answer FROM examples"),
        ("another table", "SELECT * FROM xzzz"),
        ("a value", "SELECT prompt_text FROM examples"),
    ],
)
@pytest.mark.parametrize("fetch", FETCHES.values(), ids=FETCHES.keys())
def test_text_that_is_not_utf_8_is_an_error_of_duckdb_however_it_is_fetched(
    tmp_path, kind, query, fetch
):
    path = bad_text.write_store(tmp_path / "a.duckdb", *STORES[kind])

    with store.connect_read_only(path) as connection, pytest.raises(duckdb.Error) as caught:
        fetch(connection, query)

    assert utf8_connection.not_utf8_error(path, caught.value) is not None
