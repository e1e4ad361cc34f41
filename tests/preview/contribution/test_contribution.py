"""Files of contributors: every form the same rows, a stratified sample, one line for bad ones."""

import gzip
import json
import math
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sem.core.errors import SemError
from sem.preview.contribution import contribution
from sem.preview.contribution.columns import ColumnShape, as_list
from sem.preview.contribution.contribution import Sample

ROWS = [{"text": f"text number {n}", "label": f"c{n % 3}"} for n in range(30)]
NUMBERS = [{"query_id": n, "features": [n / 2, -n], "label": n % 2} for n in range(20)]


def as_jsonl(rows: list) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_csv(rows: list) -> str:
    names = list(rows[0])
    lines = [",".join(f'"{row[name]}"' for name in names) for row in rows]
    return "\n".join([",".join(names), *lines]) + "\n"


def written(folder: Path, name: str, rows: list) -> Path:
    path = folder / name
    kind = name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "parquet":
        source = written(folder, "source.jsonl", rows)
        duckdb.sql(f"SELECT * FROM read_json('{source}')").write_parquet(str(path))
        return path
    text = {"csv": as_csv, "json": json.dumps, "jsonl": as_jsonl}[kind](rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


NAMES = ["a.csv", "a.json", "a.jsonl", "a.csv.gz", "a.json.gz", "a.jsonl.gz", "a.parquet"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [ROWS, NUMBERS])
def test_every_form_holds_the_same_rows(tmp_path, name, rows) -> None:
    found = contribution.read_contribution(written(tmp_path, name, rows), 1_000, 1)
    plain = contribution.read_contribution(written(tmp_path, "b.jsonl", rows), 1_000, 1)
    seen = [(s.label, s.text, s.features) for s in found.samples]
    assert seen == [(s.label, s.text, s.features) for s in plain.samples]
    assert found.size == len(rows)
    assert found.manifest["row_count"] == len(rows)
    assert found.shape.kind == ("text" if rows is ROWS else "table")


def test_numeric_columns_are_features_and_ids_are_none(tmp_path) -> None:
    rows = [
        {"customer_id": n, "id": n, "age": n, "score": f"{n / 3:.2f}", "target": "yes"}
        for n in range(5)
    ]
    found = contribution.read_contribution(written(tmp_path, "a.csv", rows), 10, 1)
    assert found.shape == ColumnShape("table", "target", features=("age", "score"), width=2)


def test_a_sample_keeps_proportions_and_every_class(tmp_path) -> None:
    rows = [{"text": f"t{n}", "label": "a" if n < 900 else "b"} for n in range(998)]
    rows += [{"text": "rare", "label": "c"}, {"text": "rarer", "label": "d"}]
    found = contribution.read_contribution(written(tmp_path, "a.jsonl", rows), 100, 7)
    assert Counter(s.label for s in found.samples) == {"a": 89, "b": 9, "c": 1, "d": 1}
    assert (len(found.samples), found.size) == (100, 1_000)
    assert found.classes["a"] == 900


def test_the_sample_depends_on_the_seed_and_not_on_the_order(tmp_path) -> None:
    rows = [{"text": f"t{n}", "label": "a"} for n in range(200)]
    texts = [
        {
            s.text
            for s in contribution.read_contribution(
                written(tmp_path, name, made), 50, seed
            ).samples
        }
        for name, made, seed in (
            ("a.jsonl", rows, 1),
            ("b.jsonl", rows[::-1], 1),
            ("a.jsonl", rows, 2),
        )
    ]
    assert texts[0] == texts[1] != texts[2]


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(1, 200), min_size=1),
    st.integers(1, 300),
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_quotas_are_whole_and_fair(counts, most) -> None:
    total = sum(counts.values())
    taken = contribution._quotas(Counter(counts), most)
    assert sum(taken.values()) == min(most, total)
    assert all(0 < taken[name] <= counts[name] for name in taken)
    if total > most >= len(counts):
        assert set(taken) == set(counts)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1.0", "1"),
        (True, "1"),
        (" yes ", "yes"),
        (0.5, "0.5"),
        (None, None),
        ("", None),
        ("NaN", None),
        (math.nan, None),
        ([1], None),
        ("null", None),
    ],
)
def test_labels_that_mean_the_same_are_one(value, label) -> None:
    assert contribution.as_label(value) == label


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("[1, 2.5]", [1, 2.5]),
        ("(1, 2)", [1, 2]),
        ("[1, None]", [1, None]),
        ([3], [3]),
        ("1, 2", None),
        ("[1, ", None),
        ("[__import__('os')]", None),
        (7, None),
        ("[" * 10_000, None),
    ],
)
def test_a_list_in_a_cell_is_read_and_never_run(value, found) -> None:
    assert as_list(value) == found


def test_what_is_no_row_is_counted(tmp_path) -> None:
    rows = [
        *ROWS,
        {"text": "no label"},
        {"label": "c0"},
        {"text": " ", "label": "c0"},
        7,
        {"text": 5, "label": "c1"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(as_jsonl(rows) + "{not json\n")
    found = contribution.read_contribution(path, 100, 1)
    assert found.size == 30
    assert found.skipped == {"no_label": 1, "no_text": 3, "no_object": 1, "not_json": 1}


def test_missing_and_infinite_numbers_are_missing_and_counted(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,label\n1,2,x\n,3,y\nnan,4,x\ninf,5,y\n6,,x\n,,y\n")
    found = contribution.read_contribution(path, 100, 1)
    assert found.skipped == {"no_features": 1}
    assert found.notes["values missing"] == 4
    assert found.notes["values that are NaN or infinite"] == 2
    assert [math.isnan(s.features[0]) for s in found.samples] == [False, True, True, True, False]


def test_the_base_data_say_which_columns_there_must_be(tmp_path) -> None:
    like = ColumnShape("table", "label", features=("a", "b"), width=2)
    path = tmp_path / "a.csv"
    path.write_text("b,A,Label,c\n1,2,x,9\n3,4,y,9\n")
    found = contribution.read_contribution(path, 10, 1, like)
    assert found.samples[0] == Sample("line 2", "x", features=(2.0, 1.0))
    path.write_text("a,label\n1,x\n")
    with pytest.raises(SemError) as caught:
        contribution.read_contribution(path, 10, 1, like)
    assert caught.value.message == f"{path}: column 'b' is missing, which the base data have"


BAD = {
    "empty.csv": (b"", "the file is empty"),
    "header.csv": (b"text,label\n", "has a header and no rows"),
    "nolabel.csv": (b"text,kind_of\na,b\n", "no column says what a row is: text, kind_of"),
    "nothing.csv": (b"note,label\nsome words,a\n", "neither a text nor numbers to learn from"),
    "empty.jsonl": (b"\n\n", "holds no rows"),
    "numbers.jsonl": (b"1\n2\n", "holds no rows"),
    "list.json": (b"{}", "holds no list of rows"),
    "cut.json": (b'[{"text": "a", "la', "not JSON: it ends inside its list"),
    "wide.csv": (
        b",".join(b"c%d" % n for n in range(10_001)) + b"\n" + b"1," * 10_000 + b"1\n",
        "more than 10,000 columns",
    ),
    "blank.csv": (b"text,label\na,\nb,\n", "none of its rows can be used: no_label"),
    "cut.parquet": (b"PAR1 and then nothing", "not usable Parquet"),
    "model.pkl": (b"\x80\x04K\x01.", "unknown kind of file 'pkl'"),
    "bomb.jsonl.gz": (gzip.compress(b" " * 70_000_000), "unpacks to more than 200 times"),
    "cut.csv.gz": (gzip.compress(b"text,label\n" + b"a,b\n" * 5_000)[:60], "cannot be read"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_one_clear_line(tmp_path, name) -> None:
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SemError) as caught:
        contribution.read_contribution(path, 100, 1)
    assert caught.value.message.startswith(str(path))
    assert message in caught.value.message
    assert caught.value.hint


def test_no_file_is_said(tmp_path) -> None:
    with pytest.raises(SemError, match="no such file"):
        contribution.read_contribution(tmp_path / "none.csv", 10, 1)
