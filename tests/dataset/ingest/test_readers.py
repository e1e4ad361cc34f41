"""JSON lines and JSON lists, a row at a time."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sem.core import jsonio
from sem.core.errors import SemError
from sem.dataset.ingest import readers
from sem.dataset.ingest.readers import ReadReporter


def read(path, data: bytes, reader=readers.iter_json_array):
    path.write_bytes(data)
    refused: list[tuple[str, str]] = []
    found = list(reader(path, ReadReporter(lambda where, reason: refused.append((where, reason)))))
    return found, refused


VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(max_size=3).filter(str.isprintable), inner)
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=5), st.integers(1, 7), st.booleans())
def test_a_list_read_in_blocks_is_the_list(tmp_path_factory, values, block, indented):
    path = tmp_path_factory.getbasetemp() / "list.json"
    text = json.dumps(values, ensure_ascii=False, indent=1 if indented else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BLOCK", block)
        found, refused = read(path, text.encode())

    assert [value for _, value in found] == values
    assert refused == []


def test_a_bad_element_is_refused_and_the_next_is_read(tmp_path):
    found, refused = read(tmp_path / "a.json", b'[{"a": 1}, {"a": NaN}, {"a": 1, "a": 2}, 3]')

    assert found == [("row 1", {"a": 1}), ("row 4", 3)]
    assert refused == [
        ("row 2", "not_json: NaN is not JSON"),
        ("row 3", "not_json: key 'a' appears twice"),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[1, 2", "not JSON: it ends inside its list"),
        (b'["a', "not JSON: it ends inside its list"),
        (b"[1] 2", "not JSON: something follows the list"),
        (b"[\xff]", "not JSON: not UTF-8: invalid start byte"),
        (b"", "not JSON: Expecting value"),
        (b'{"rows": 1}', "holds no list of rows"),
        (b"[" * 100_000, "not JSON: it ends inside its list"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, data, said):
    with pytest.raises(SemError) as caught:
        read(tmp_path / "a.json", data)

    assert said in caught.value.message


def test_a_list_inside_an_object_is_found(tmp_path):
    found, _ = read(tmp_path / "a.json", b'\xef\xbb\xbf {"version": 1, "data": [7]}')

    assert found == [("row 1", 7)]


def test_a_long_line_is_one_refusal(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_LINE", 100)

    found, refused = read(
        tmp_path / "a.jsonl", b'"' + b"x" * 950 + b'"\n1\n', readers.iter_jsonl_rows
    )

    assert found == [("line 2", 1)]
    assert refused == [("line 1", "longer than 100 bytes")]


def test_a_torn_gzip_is_refused(tmp_path):
    data = gzip.compress(b"1\n" * 100_000)

    with pytest.raises(SemError, match=r"a\.jsonl\.gz: cannot be read"):
        read(tmp_path / "a.jsonl.gz", data[:-20], readers.iter_jsonl_rows)


def test_values_that_would_not_fit_into_memory_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match="more than 3,000,000 commas and brackets"):
        jsonio.parse_json("[" + "{}," * 2_000_000 + "{}]")
