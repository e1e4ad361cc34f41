"""CSV as it is found; nothing is lost without a line number."""

from collections import Counter

import pytest

from sem.core.errors import SemError
from sem.dataset.feed import sheets
from sem.dataset.feed.readers import Told

WANTED = [{"id": "1", "text": "Größe, ünd"}, {"id": "2", "text": None}]


def read(path, data: bytes):
    path.write_bytes(data)
    refused, notes = [], Counter()
    told = Told(lambda where, reason: refused.append((where, reason)), lambda t: notes.update([t]))
    return list(sheets.rows(path, told)), refused, notes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_encodings_line_ends_and_delimiters_do_not_matter(tmp_path, encoding, end, mark):
    lines = [f"id{mark}text", f'1{mark}"Größe, ünd"', f"2{mark}", ""]

    found, refused, _ = read(tmp_path / "a.csv", end.join(lines).encode(encoding))

    assert [row for _, row in found] == WANTED
    assert refused == []


def test_another_encoding_is_said(tmp_path):
    _, _, notes = read(tmp_path / "a.csv", "id,text\n1,é\n".encode("utf-16"))

    assert notes == {"a.csv is read as utf-16": 1}


def test_rows_are_told_by_the_line_they_end_at(tmp_path):
    data = 'id,text\n\n1,"two\nlines"\n2,a,b\n , \n3\n4,x\n'

    found, refused, _ = read(tmp_path / "a.csv", data.encode())

    assert found == [
        ("line 4", {"id": "1", "text": "two\nlines"}),
        ("line 8", {"id": "4", "text": "x"}),
    ]
    assert refused == [
        ("line 5", "has 3 cells, not 2"),
        ("line 7", "has 1 cells, not 2"),
    ]


def test_a_line_that_cannot_be_decoded_is_refused_and_a_real_u_fffd_is_not(tmp_path):
    good = "id,text\n" + "1,ok \ufffd\n" * 8_000

    found, refused, _ = read(tmp_path / "a.csv", good.encode() + b"2,bad \xff\n3,ok\n")

    assert len(found) == 8_001
    assert refused == [("line 8002", "not_utf-8")]


def test_a_delimiter_inside_quotes_of_the_header_does_not_count():
    assert sheets.delimiter('"a,b,c,d";e\n1;2\n3;4\n') == ";"
    assert sheets.delimiter("price;title\n1,50;a, b, c\n2,50;d\n") == ";"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the first line names no columns"),
        (b"\n\n", "the first line names no columns"),
        (b"a,b,a\n1,2,3\n", "the first line names the column 'a' twice"),
        (b'a,b\n1,"x"y\n', "not usable CSV: line 2: ',' expected after '\"'"),
        (b'a,b\n1,"never closed\n2,3\n', "not usable CSV: line 3: unexpected end of data"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, data, said):
    with pytest.raises(SemError) as caught:
        read(tmp_path / "a.csv", data)

    assert said in caught.value.message


def test_a_file_without_line_ends_does_not_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "MAX_LINE", 1 << 20)

    with pytest.raises(SemError, match="a line is longer than"):
        read(tmp_path / "a.csv", b"id,text\n" + b"x" * (4 << 20))
