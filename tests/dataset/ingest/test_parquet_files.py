"""Parquet of others: weighed before and while it is read; every type becomes JSON."""

import json
import time

import duckdb
import pytest
from rowmaker import project

from sem.core.errors import SemError
from sem.dataset.ingest import importers, parquet_files
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store


def parquet(path, query: str):
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
    return path


def test_two_hundred_million_rows_in_a_small_file_are_refused_at_once(tmp_path):
    path = parquet(tmp_path / "a.parquet", "SELECT 1 AS id, 'x' AS t FROM range(60_000_000)")
    began = time.process_time()

    with pytest.raises(SemError, match=r"says 60,000,000 rows of 2 columns in [\d,]+ bytes"):
        importers.import_file(project(tmp_path), path, ImportOptions(task="product"))

    assert path.stat().st_size < 3_000_000
    assert time.process_time() - began < 2


def test_a_long_text_repeated_is_stopped_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "MIN_CAP", 1 << 22)
    monkeypatch.setattr(parquet_files, "SUSPECT", 0)
    query = "SELECT repeat('x', 100_000) AS input_text, 'a' AS answer FROM range(1_000)"
    made = project(tmp_path)

    with pytest.raises(SemError, match="unpacks to more than 200 times its size"):
        importers.import_file(
            made, parquet(tmp_path / "a.parquet", query), ImportOptions(task="product")
        )

    assert not made.store.exists()


def test_a_dictionary_that_makes_a_small_file_large_is_refused_before_a_row_is_read(tmp_path):
    query = "SELECT repeat('x', 300_000) AS input_text, 'a' AS answer FROM range(3_000)"
    path = parquet(tmp_path / "a.parquet", query)

    with pytest.raises(SemError, match="2,048 of its rows take 614,402,048 bytes"):
        importers.import_file(project(tmp_path), path, ImportOptions(task="product"))

    assert path.stat().st_size < 5_000


def test_nested_types_dates_and_decimals_become_json(tmp_path):
    made = project(tmp_path)
    query = (
        "SELECT 'a' AS id, 'page' AS input_text, {'price': 4.50::DECIMAL(9,2), "
        "'on': DATE '2026-01-02', 'tags': ['x', NULL], 'at': TIMESTAMP '2026-01-02 03:04:05', "
        "'map': MAP {'k': 1}, 'key': '12345678-1234-1234-1234-123456789012'::UUID} AS answer"
    )

    importers.import_file(
        made, parquet(tmp_path / "a.parquet", query), ImportOptions(task="product")
    )

    with store.open_store(made.store) as opened:
        (row,) = opened.rows()
    assert json.loads(row.reference) == {
        "price": 4.5,
        "on": "2026-01-02",
        "tags": ["x", None],
        "at": "2026-01-02T03:04:05",
        "map": {"k": 1},
        "key": "12345678-1234-1234-1234-123456789012",
    }


def test_a_number_that_is_none_is_refused_by_its_row(tmp_path):
    made = project(tmp_path)
    query = (
        "SELECT * FROM (VALUES ('a', 'page', {'p': 1.5::DOUBLE}), "
        "('b', 'page', {'p': 'nan'::DOUBLE})) AS t(id, input_text, answer)"
    )

    result = importers.import_file(
        made, parquet(tmp_path / "a.parquet", query), ImportOptions(task="product")
    )

    assert result.stored.added == 1
    # Later Pythons add the value.
    (reason,) = result.rejects
    assert reason.startswith("not_json: Out of range float values are not JSON compliant")


def test_capture_columns_survive_outside_a_chunk_and_unread_ones_are_said(tmp_path):
    made = project(tmp_path)
    query = "SELECT 'a' AS id, 'page' AS input_text, '1' AS answer, 'p' AS provider, 9 AS colour"

    result = importers.import_file(
        made, parquet(tmp_path / "a.parquet", query), ImportOptions(task="product")
    )

    with store.open_store(made.store) as opened:
        assert json.loads(next(opened.rows()).metadata) == {"capture": {"provider": "p"}}
    assert dict(result.notes) == {"not read: field 'colour'": 1}


def test_a_file_of_other_columns_says_which_and_how_to_map_them(tmp_path):
    path = parquet(tmp_path / "a.parquet", "SELECT 'x' AS body, 'y' AS label")

    with pytest.raises(SemError) as caught:
        importers.import_file(project(tmp_path), path, ImportOptions(task="product"))

    assert caught.value.message == (
        f"{path}: none of its rows can be used: 1 times no_input; not read: 'body', 'label'"
    )
    assert "--map input_text=TEXT" in caught.value.hint
