"""PDF files: the text of each page in order; a form feed begins the next one."""

import io
import re
from typing import Any

from sem.forge.reading.refusals import DocumentText, RejectedDocumentError, Step, count_note

# `exam-` at a line's end and `ple` on the next; a capital after it may be a name: `Jean-\nPaul`.
HYPHEN = re.compile(r"(?<=[^\W\d_])(?:-|\u00ad)\r?\n(?=[^\W\d_])")
# Of a megabyte of text: what a page may take on average.
A_PAGE = 0.1
SOFT = "\u00ad"


def read_pdf(data: bytes, step: Step) -> DocumentText:
    """Return the text that `data` draws; a scan draws none and is refused."""
    import pypdf

    step(0)
    reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
    # Many files are encrypted with an empty password, so that they cannot be edited.
    if reader.is_encrypted and not reader.decrypt(""):
        raise RejectedDocumentError("pdf_encrypted", "it needs a password")
    pages, joined = [], 0
    for page in reader.pages:
        step(A_PAGE)
        text, count = _joined(page.extract_text())
        joined += count
        pages.append(text.strip())
    empty = sum(not page for page in pages)
    if empty == len(pages):
        raise RejectedDocumentError(
            "pdf_without_text", f"{len(pages)} pages; recognise its text first (OCR)"
        )
    notes = (
        *count_note(len(pages), "pages"),
        *count_note(empty, "pages hold no text"),
        *count_note(joined, "words joined at a hyphen"),
    )
    return DocumentText("\n\f".join(pages), _title(reader), notes)


def _joined(text: str) -> tuple[str, int]:
    """Return `text` with words that a line end cuts joined, and how many there were."""
    count = 0

    def join(match: re.Match[str]) -> str:
        nonlocal count
        if match[0][0] != SOFT and not text[match.end()].islower():
            return match[0]
        count += 1
        return ""

    return HYPHEN.sub(join, text), count


def _title(reader: Any) -> str:
    title = reader.metadata.title if reader.metadata else None
    return " ".join(str(title or "").split())[:200]
