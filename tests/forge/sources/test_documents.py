"""Documents: what is read of each format, and each way a file is left out by name."""

import os
from collections.abc import Iterator

import papers
import pytest

from sem.core.errors import SemError
from sem.forge.reading.convert import ConvertedFile, Converter, ReadingLimits
from sem.forge.sources import chunks, documents

HTML = b"""<html><head><title>T</title></head><body><h1>Mugs</h1><p>Red ones hold 300 ml.</p>
<pre>fn main() {
}
fn other() {
}</pre><ul><li>one</li><li>two</li></ul><p style="display:none">unseen</p></body></html>"""


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    with Converter() as made:
        yield made


def names(raw, **limits):
    skips = []
    found = [d.name for d in documents.read_documents(raw, ReadingLimits(**limits), skips.append)]
    return found, {skip.where: skip.reason for skip in skips}


def put(raw, **files):
    raw.mkdir(exist_ok=True)
    for name, content in files.items():
        (raw / name.replace("__", ".")).write_bytes(content)
    return raw


def test_text_is_kept_as_it_is(converter):
    made = converter.read("md", "# Titel\r\n\r\nGröße: 3 € \u201eja\u201c\n".encode())

    assert made == ConvertedFile("# Titel\r\n\r\nGröße: 3 € \u201eja\u201c\n", "Titel")


def test_another_encoding_is_said(converter):
    text = "Die Größe der Öfen überrascht. " * 5
    made = converter.read("txt", text.encode("utf-16"))
    older = converter.read("txt", text.encode("cp1252"))

    assert (made.text, made.notes) == (text, ("read as utf-16",))
    assert older.text == text
    assert older.notes == ("read as cp1252",)


def test_a_page_about_encodings_is_not_read_as_one(converter):
    text = 'Write <meta charset="iso-8859-1"> – or better: UTF-8 für alle.'

    assert converter.read("md", text.encode()).text == text


def test_invisible_characters_go_and_are_counted(converter):
    made = converter.read("txt", "pay\u202e me\u200b\x00 now".encode())

    assert (made.text, made.notes) == ("pay me now", ("3 invisible characters removed",))


def test_html_keeps_headings_lists_and_code_and_drops_what_is_hidden(converter):
    made = converter.read("html", HTML)

    assert "# Mugs\n\nRed ones hold 300 ml." in made.text
    assert "```\nfn main() {\n}\nfn other() {\n}\n```" in made.text
    assert "- one\n- two" in made.text
    assert "unseen" not in made.text
    assert made.title == "Mugs"
    assert made.notes == ("1 hidden elements left out",)


def test_pdf_pages_follow_each_other_and_hyphens_are_joined(converter):
    made = converter.read("pdf", papers.pdf("The exam-\nple works. A Jean-\nPaul.", "", "Page 3."))

    assert made.text == "The example works. A Jean-\nPaul.\n\f\n\fPage 3."
    assert made.notes == ("3 pages", "1 pages hold no text", "1 words joined at a hyphen")


def test_docx_becomes_headings_and_paragraphs(converter):
    made = converter.read("docx", papers.docx("# Rules", "No smoking.", "Be kind & fair."))

    assert made.text == "# Rules\n\nNo smoking.\n\nBe kind & fair."
    assert made.title == "Rules"


BAD = {
    "pdf that needs a password": ("pdf", papers.encrypted("x"), "pdf_encrypted"),
    "pdf of a scan": ("pdf", papers.pdf("", ""), "pdf_without_text"),
    "pdf cut off": ("pdf", papers.pdf("text " * 90, packed=True)[:200], "pdf_unreadable"),
    "docx of another archive": ("docx", papers.archive({"a": "b"}), "docx_unreadable"),
    "docx with a doctype": (
        "docx",
        papers.archive(
            {"word/document.xml": papers.body("x", prefix='<!DOCTYPE a [<!ENTITY b "c">]>')}
        ),
        "docx_entities",
    ),
    "docx bomb": ("docx", papers.archive({"word/document.xml": b" " * 40_000_000}), "docx_bomb"),
    "html of 9,000 levels": ("html", b"<div>" * 9_000, "html_depth"),
    "text of control codes": ("txt", b"abc\x01\x02\x03def" * 40, "binary"),
    "text of torn letters": ("txt", b"\xff\xfe" + b"\x00\xd8" * 90, "undecodable"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_named(name, converter):
    kind, data, reason = BAD[name]

    assert converter.read(kind, data).reason == reason
    assert converter.read("txt", b"still here").text == "still here"


def test_a_pdf_that_needs_no_password_is_read(converter):
    assert converter.read("pdf", papers.encrypted("Open.", password="")).text == "Open."


def test_a_reader_that_takes_too_long_is_ended_and_the_next_file_is_read():
    operators = papers.stream(b"BT /F1 12 Tf " + b"(a) Tj 1 0 0 1 0 0 Tm " * 200_000 + b"ET")
    with Converter(ReadingLimits(deadline_s=0.3)) as converter:
        made = converter.read("pdf", papers.pdf_of([operators]))
        assert made.reason == "document_timeout"
        assert converter.read("txt", b"still here").text == "still here"


def test_a_reader_that_swells_is_ended():
    swollen = papers.stream(b"BT " + b" " * 70_000_000, packed=True)
    with Converter(ReadingLimits(memory_mib=110)) as converter:
        made = converter.read("pdf", papers.pdf_of([swollen]))
        assert (made.reason, made.detail) == ("document_memory", "more than 110 MiB")
        assert converter.read("txt", b"still here").text == "still here"


def test_sources_are_found_below_folders_in_order_and_other_files_are_named(tmp_path):
    raw = put(tmp_path / "raw", b__md=b"b", a__TXT=b"a", c__csv=b"x,y", dataset__duckdb=b"x")
    put(raw / "sub", a__html=HTML)
    put(raw, **{"__hidden__md": b"x"})

    assert names(raw) == (["a.TXT", "b.md", "sub/a.html"], {"c.csv": "unknown_kind"})


def test_no_link_leads_out_of_the_folder(tmp_path):
    outside = put(tmp_path / "home", key=b"PRIVATE", note__md=b"mine")
    raw = put(tmp_path / "raw", own__md=b"own", twin__md=b"twin")
    (raw / "soft.md").symlink_to(outside / "note.md")
    (raw / "folder").symlink_to(outside)
    (raw / "inside.md").symlink_to(raw / "own.md")
    # Path.resolve raises on it.
    (raw / "loop.md").symlink_to(raw / "loop.md")
    os.link(outside / "key", raw / "hard.md")
    os.link(raw / "twin.md", raw / "twin2.md")

    assert names(raw) == (
        ["own.md", "twin.md"],
        {
            "soft.md": "link_leaves",
            "folder": "link_leaves",
            "inside.md": "link",
            "loop.md": "link",
            "hard.md": "link_leaves",
            "twin2.md": "same_bytes",
        },
    )


def test_names_that_steer_a_terminal_are_not_read(tmp_path):
    raw = put(tmp_path / "raw", a__md=b"a")
    (raw / "evil\x1b[2Jname.md").write_bytes(b"x")
    (raw / "two\nlines.md").write_bytes(b"y")
    (raw / "turned\u202edm.md").write_bytes(b"z")
    with open(os.fsencode(raw) + b"/\xff\xfe.md", "wb") as file:
        file.write(b"w")

    found, skips = names(raw)

    assert found == ["a.md"]
    assert set(skips.values()) == {"unsafe_name"}
    assert len(skips) == 4
    for name in skips:
        name.encode("utf-8")


def test_empty_large_and_misnamed_files_are_named(tmp_path):
    raw = put(
        tmp_path / "raw",
        empty__md=b"",
        blank__txt=b" \n\t",
        large__txt=b"a" * 1_001,
        exact__txt=b"b" * 1_000,
        scan__txt=papers.pdf("x"),
        page__txt=b"<!DOCTYPE html><p>x",
        old__docx=b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest",
        text__pdf=b"no pdf",
        picture__md=b"\x89PNG\r\n\x1a\n",
    )
    os.mkfifo(raw / "pipe.md")

    assert names(raw, max_bytes=1_000) == (
        ["exact.txt"],
        {
            "empty.md": "empty",
            "blank.txt": "empty",
            "large.txt": "too_large",
            "scan.txt": "wrong_extension",
            "page.txt": "wrong_extension",
            "old.docx": "docx_encrypted",
            "text.pdf": "wrong_extension",
            "picture.md": "wrong_extension",
            "pipe.md": "not_a_file",
        },
    )


def test_a_missing_folder_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(SemError) as found:
        names(tmp_path / "raw")

    assert str(found.value) == f"{tmp_path}/raw: no such folder\n       put the documents there"


def test_pages_of_a_pdf_end_chunks_when_their_last_sentence_is_whole(converter):
    sentences = "\n".join(f"This is sentence {n} of a page." for n in range(20))
    made = converter.read("pdf", papers.pdf(sentences, sentences))
    document = documents.Document("a.pdf", "0" * 64, made.text, "pdf")

    cut = chunks.cut_chunks(document, chunks.Sizes(900, 0)).chunks
    assert [c.text.startswith("\f") for c in cut] == [False, True]
