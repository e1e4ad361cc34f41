"""CSV as it is found; nothing is lost without a line number."""

import json
from collections import Counter

import pytest

from sem.core.errors import SemError
from sem.dataset.ingest import csv_dialects
from sem.dataset.ingest.readers import ReadReporter

WANTED = [{"id": "1", "text": "Größe, ünd"}, {"id": "2", "text": None}]


def read(path, data: bytes):
    path.write_bytes(data)
    refused, notes = [], Counter()
    told = ReadReporter(
        lambda where, reason: refused.append((where, reason)), lambda t: notes.update([t])
    )
    return list(csv_dialects.read_csv_rows(path, told)), refused, notes


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
    assert refused == [("line 8002", "not_utf-8: text of id 2")]


def test_a_delimiter_inside_quotes_of_the_header_does_not_count():
    assert csv_dialects.detect_delimiter('"a,b,c,d";e\n1;2\n3;4\n') == ";"
    assert csv_dialects.detect_delimiter("price;title\n1,50;a, b, c\n2,50;d\n") == ";"


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
    monkeypatch.setattr(csv_dialects, "MAX_LINE", 1 << 20)

    with pytest.raises(SemError, match="a line is longer than"):
        read(tmp_path / "a.csv", b"id,text\n" + b"x" * (4 << 20))


UMLAUTS = [f'r{n},"<p>Größe {n}\nfür 1</p>",{n}' for n in range(1, 8)]


def sheet(*lines: str, before: int = 0) -> bytes:
    """Return a sheet whose records have two lines each, after `before` bytes of other records."""
    count = before // 40
    other = [f"o{n},aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,{n}" for n in range(count)]
    return "\n".join(["id,page,price", *other, *lines, ""]).encode()


@pytest.mark.parametrize("before", [0, 200_000], ids=["in the head", "past the head"])
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        # The first line of a cell.
        (b"Gr\xc3\xb6\xc3\x9fe 4\n", b"Gr\xfc\xdfe 4\n"),
        (b"4\nf\xc3\xbcr", b"4\nf\xfcr"),  # the second
        # The line that opens the record.
        (b'r4,"<p>', b'r4,"<!-- \xfc --><p>'),
        # The line that closes it.
        (b'</p>",4', b'</p>\xfc",4'),
        (b'</p>",4', b'</p>",4\xfc'),  # the last cell
        (b"4\nf", b"4\xfc\nf"),  # the end of a line
    ],
)
def test_a_bad_byte_costs_its_record_whole_and_no_other(tmp_path, good, bad, before):
    # Past 64 KiB its line was cut out of the cell and the row kept; before it, the whole UTF-8
    # file was read as cp1250 and every row was garbled. Both with exit 0.
    data = sheet(*UMLAUTS, before=before)
    assert data.count(good) == 1

    found, refused, notes = read(tmp_path / "a.csv", data.replace(good, bad))

    kept = [row for _, row in found if row["id"].startswith("r")]
    assert [row["id"] for row in kept] == ["r1", "r2", "r3", "r5", "r6", "r7"]
    assert all(row["page"] == f"<p>Größe {row['price']}\nfür 1</p>" for row in kept)
    assert len(refused) == 1
    assert "not_utf-8: p" in refused[0][1]
    assert refused[0][1].endswith(" of id r4")
    assert notes == {}


@pytest.mark.parametrize(
    ("name", "count", "bad"),
    [
        ("badbyte.csv", 6, "r3"),
        ("late_start.csv", 20, "r15"),
        ("late_mid.csv", 20, "r15"),
        ("late_end.csv", 20, "r15"),
    ],
)
def test_of_the_sheets_that_lost_lines_one_row_is_refused_and_no_other(shared, name, count, bad):
    path, refused = shared / "findings" / "csv-badbyte" / name, []
    told = ReadReporter(
        lambda where, reason: refused.append(reason), lambda text: pytest.fail(text)
    )

    found = [row for _, row in csv_dialects.read_csv_rows(path, told)]

    assert [reason.rpartition(" ")[2] for reason in refused] == [bad]
    assert len(found) == count - 1
    prices = [(row["prompt_text"], json.loads(row["response_strong"])["price"]) for row in found]
    assert all(f"EUR {price:.2f}".replace(".", ",") in page for page, price in prices)


def test_text_in_an_8_bit_encoding_is_still_read_whole(tmp_path):
    lines = "\n".join(["id,page,price", *UMLAUTS, ""])

    found, refused, notes = read(tmp_path / "a.csv", lines.encode("cp1252"))

    assert [row["page"] for _, row in found] == [f"<p>Größe {n}\nfür 1</p>" for n in range(1, 8)]
    assert refused == []
    assert list(notes) in (["a.csv is read as cp1252"], ["a.csv is read as cp1250"])


def test_8_bit_text_that_begins_after_a_long_plain_start_is_read_whole(tmp_path):
    data = sheet(*UMLAUTS, before=200_000).decode().encode("cp1252")

    found, refused, _ = read(tmp_path / "a.csv", data)

    assert refused == []
    assert found[-1][1]["page"] == "<p>Größe 7\nfür 1</p>"


def test_a_header_with_a_bad_byte_is_one_error(tmp_path):
    data = "id,größe\n1,é\n2,é\n3,ö\n4,ü\n".encode().replace(b"\xc3\xb6", b"\xf6", 1)

    with pytest.raises(SemError, match="the first line is not utf-8"):
        read(tmp_path / "a.csv", data)
