"""Columns of others under our names, also by dotted paths; unknown ones are told."""

import json

import duckdb
import pytest
from rowmaker import project

from sem.core.errors import SemError
from sem.dataset.ingest import column_mapping, importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store

RECORD = {
    "key": "k1",
    "body": "<p>Mug, $4.50</p>",
    "label": {"title": "Mug", "price": 4.5},
    "source": {"link": "https://www.shopa.example/p/1", "langs": ["de", "en"]},
    "prompt": "not this one",
}
COLUMNS = {
    "id": "key",
    "input_text": "body",
    "output_json": "label",
    "meta.url": "source.link",
    "meta.language": "source.langs.0",
}


def as_jsonl(path):
    path.write_text(json.dumps(RECORD) + "\n")


def as_csv(path):
    cells = {name: v if isinstance(v, str) else json.dumps(v) for name, v in RECORD.items()}
    quoted = ('"' + cell.replace('"', '""') + '"' for cell in cells.values())
    path.write_text(",".join(cells) + "\n" + ",".join(quoted) + "\n")


def as_table(path):
    connection = duckdb.connect(str(path) if path.suffix == ".duckdb" else ":memory:")
    connection.execute(
        "CREATE TABLE examples (key TEXT, body TEXT, label STRUCT(title TEXT, price DOUBLE), "
        "source STRUCT(link TEXT, langs TEXT[]), prompt TEXT)"
    )
    connection.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", list(RECORD.values()))
    if path.suffix == ".parquet":
        connection.execute(f"COPY examples TO '{path}' (FORMAT parquet)")
    connection.close()


KINDS = {"a.jsonl": as_jsonl, "a.csv": as_csv, "a.parquet": as_table, "a.duckdb": as_table}


@pytest.mark.parametrize("name", KINDS)
def test_columns_are_mapped_in_every_kind_of_file(tmp_path, name):
    made = project(tmp_path)
    KINDS[name](tmp_path / name)

    done = importers.import_file(
        made, tmp_path / name, ImportOptions(task="product", columns=COLUMNS)
    )

    # What is mapped is not called unread.
    assert not done.notes
    with store.open_store(made.store) as opened:
        (row,) = opened.rows()
    assert (row.id, row.input_text) == ("k1", RECORD["body"])
    assert json.loads(row.reference) == RECORD["label"]
    assert json.loads(row.metadata) == {"url": RECORD["source"]["link"], "language": "de"}


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        (
            {"input_text": "bodi"},
            "--map input_text=bodi: no column 'bodi'",
            "did you mean 'body'?",
        ),
        (
            {"meta.url": "source.lnk"},
            "--map meta.url=source.lnk: no row has 'source.lnk'",
            "column 'source' is there: check the path below it",
        ),
    ],
)
@pytest.mark.parametrize("name", KINDS)
def test_a_column_that_is_not_there_stops_the_import(tmp_path, name, columns, message, hint):
    made = project(tmp_path)
    KINDS[name](tmp_path / name)

    with pytest.raises(SemError) as caught:
        importers.import_file(
            made, tmp_path / name, ImportOptions(task="product", columns=columns)
        )

    assert caught.value.message == f"{tmp_path / name}: {message}"
    assert caught.value.hint == hint
    assert not made.store.exists()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["input_txt=a"], "--map 'input_txt=a': unknown field 'input_txt'"),
        (["input_text"], "--map 'input_text': not OURS=THEIRS"),
        (["id="], "--map 'id=': not OURS=THEIRS"),
        (["id=a", "id=b"], "--map names 'id' twice"),
    ],
)
def test_a_mapping_that_says_nothing_is_refused(pairs, message):
    with pytest.raises(SemError) as caught:
        column_mapping.parse_column_pairs(pairs)

    assert caught.value.message == message
    assert caught.value.hint


def test_older_names_of_ours_are_taken_too():
    assert column_mapping.parse_column_pairs(["prompt_text=a", "response=b", "meta.shop=c=d"]) == {
        "prompt_text": "a",
        "response": "b",
        "meta.shop": "c=d",
    }


def test_a_null_now_and_then_is_no_missing_column():
    rows = [("line 1", {"a": None}), ("line 2", {"b": 1}), ("line 3", {"a": "x"})]

    found = [row for _, row in column_mapping.map_columns(rows, {"input_text": "a"}, "f")]

    assert [row.get("input_text") for row in found] == [None, None, "x"]


def test_metadata_that_is_no_object_is_kept_beside_what_is_mapped():
    rows = [("row 1", {"metadata": "free words", "shop": "a"})]

    ((_, row),) = column_mapping.map_columns(rows, {"meta.shop": "shop"}, "f")

    assert row["metadata"] == {"unusable": "free words", "shop": "a"}
