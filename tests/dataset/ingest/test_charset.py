"""Bytes are read in the encoding they are in, whatever they claim."""

import codecs
import io
import time

import pytest

from sem.dataset.ingest import charset

TEXT = "<p>Zażółć gęślą jaźń, naïve café, Straße, 12 €</p>" * 5
JAPANESE = "<p>日本語のページです。価格は千円です。</p>" * 8


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (TEXT.encode(), TEXT),
        (codecs.BOM_UTF8 + TEXT.encode(), TEXT),
        (TEXT.encode("utf-16"), TEXT),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), TEXT),
        (
            "<meta charset=iso-8859-1><p>café – 5".encode("cp1252"),
            "<meta charset=iso-8859-1><p>café – 5",
        ),
        (
            "<meta charset='gb2312'><p>中文网页".encode("gb18030"),
            "<meta charset='gb2312'><p>中文网页",
        ),
        (b"<meta charset=utf-16><p>plain", "<meta charset=utf-16><p>plain"),
        (b"<meta charset=rot13><p>plain", "<meta charset=rot13><p>plain"),
        (b"<meta charset=nothing><p>plain", "<meta charset=nothing><p>plain"),
        (b"", ""),
    ],
)
def test_known_encodings_are_read_without_loss(data, text):
    found = charset.decode_page(data)

    assert found.text == text
    assert found.replaced == 0


@pytest.mark.parametrize(("text", "encoding"), [(JAPANESE, "shift_jis"), (JAPANESE, "euc_jp")])
def test_undeclared_encodings_are_guessed(text, encoding):
    assert "価格は千円" in charset.decode_page(text.encode(encoding)).text


def test_a_wrong_claim_does_not_win_over_readable_bytes():
    data = f"<meta charset=shift_jis>{TEXT}".encode()

    assert charset.decode_page(data).replaced == 0 or "Zażółć" in charset.decode_page(data).text


def test_unreadable_bytes_are_counted_not_raised():
    found = charset.decode_page(bytes(range(256)) * 10)

    assert isinstance(found.text, str)


def test_real_untouched_pages_are_read(shared):
    from sem.dataset.ingest import parquet_files

    with parquet_files.open_parquet(shared / "data" / "html" / "raw_pages.parquet") as rows:
        pages = [next(v for v in row.values() if isinstance(v, bytes)) for row in rows]
    shares = [(d := charset.decode_page(page)).replaced / max(1, len(d.text)) for page in pages]

    assert len(pages) == 123
    assert sum(share < 0.001 for share in shares) >= 120


def test_one_bad_byte_does_not_turn_a_page_of_utf_8():
    data = ("Größe für Gänse " * 9).encode() + b" \xfc " + "Straße".encode()

    made = charset.decode_page(data)

    assert (made.encoding, made.replaced) == ("utf-8", 1)
    assert made.text.startswith("Größe für Gänse ")


def test_one_bad_byte_in_a_long_line_is_looked_for_once():
    # A sheet of 94 kB took 3.4 s: each letter of a line was tried as the start of a match.
    data = "größe,".encode() + b"x" * 400_000 + b"\xfc\n"
    start = time.process_time()

    assert charset.of_file(io.BytesIO(data)) == "utf-8"

    assert time.process_time() - start < 2
