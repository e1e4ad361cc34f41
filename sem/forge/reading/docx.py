"""Word files: their archive checked before it is unpacked, then mammoth's HTML as lines.

An archive of 40 kB may unpack to gigabytes, and XML may nest deeper than a reader's stack; both
are seen first, in linear time.
"""

import io
import zipfile
from collections import Counter
from typing import Any
from xml.parsers import expat

from sem.forge.reading import html
from sem.forge.reading.refusals import DocumentText, RejectedDocumentError, Step, count_note

MOST_PARTS = 2_000
# Images included, which are never unpacked.
MOST_UNPACKED = 200_000_000
MOST_XML = 30_000_000
# Of nested elements; mammoth calls itself for each.
MOST_DEPTH = 150
MOST_RATIO = 250
SMALL = 1_000_000
MAIN = "word/document.xml"
# Kinds of what mammoth left out, named in the notes.
MOST_SAID = 5
# Mammoth takes so many times what reading a megabyte of text does.
PER_MB = 6.0


def read_docx(data: bytes, step: Step) -> DocumentText:
    """Return the document `data` as lines, headings as Markdown."""
    import mammoth

    step(0)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = _check(archive)
    step(PER_MB * size / 1e6)
    images = 0

    def without(_: Any) -> list[Any]:
        nonlocal images
        images += 1
        return []

    conversion = mammoth.convert_to_html(
        io.BytesIO(data),
        convert_image=without,
        include_embedded_style_map=False,
        external_file_access=False,
    )
    step(len(conversion.value) / 1e6)
    text = html.page_document_lines(f"<html><body>{conversion.value}</body></html>")
    messages = Counter(message.message for message in conversion.messages).most_common(MOST_SAID)
    notes = (
        *count_note(images, "images left out"),
        *(f"{n:,} times: {what}" for what, n in messages),
    )
    return DocumentText(text.text, text.title, notes + text.notes)


def _check(archive: zipfile.ZipFile) -> int:
    """Return how many bytes of XML are in `archive`; Refused when it is a bomb or no document."""
    parts = archive.infolist()
    if len(parts) > MOST_PARTS:
        raise RejectedDocumentError("docx_bomb", f"{len(parts):,} parts")
    if any(part.flag_bits & 1 for part in parts):
        raise RejectedDocumentError("docx_encrypted", "its parts need a password")
    if sum(part.file_size for part in parts) > MOST_UNPACKED:
        raise RejectedDocumentError("docx_bomb", f"unpacks to more than {MOST_UNPACKED:,} bytes")
    for part in parts:
        if part.file_size > max(SMALL, MOST_RATIO * part.compress_size):
            raise RejectedDocumentError(
                "docx_bomb", f"{part.file_size:,} bytes from {part.compress_size:,}"
            )
    if MAIN not in archive.namelist():
        raise RejectedDocumentError("docx_unreadable", f"no {MAIN} in the archive")
    xml = [part for part in parts if part.filename.lower().endswith((".xml", ".rels"))]
    size = sum(part.file_size for part in xml)
    if size > MOST_XML:
        raise RejectedDocumentError("docx_bomb", f"{size:,} bytes of XML")
    for part in xml:
        _check_xml(archive, part)
    return size


def _check_xml(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """Refused when `part` declares entities or nests too deep."""
    depth = 0

    def start(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise RejectedDocumentError("docx_depth", f"elements nest deeper than {MOST_DEPTH}")

    def end(_: Any) -> None:
        nonlocal depth
        depth -= 1

    def declared(*_: Any) -> None:
        raise RejectedDocumentError(
            "docx_entities", "its XML has a document type, which Word never writes"
        )

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = declared
    with archive.open(part) as file:
        parser.ParseFile(file)
