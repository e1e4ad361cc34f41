"""Text files: the bytes as they are, in the encoding they are in."""

import io

from sem.dataset.ingest import charset
from sem.forge.reading.refusals import DocumentText, RejectedDocumentError, Step, count_note

UNREADABLE_SHARE = 0.01
# Of either, which a short text may have.
FEW = 8
# Short texts in cp1252 look like these, too: `Größe` reads `Grˆþe` in one of a Macintosh.
RARE = (
    "mac",
    "cp4",
    "cp7",
    "cp8",
    "cp10",
    "cp11",
    "cp1250",
    "cp1257",
    "cp1258",
    "hp_",
    "hz",
    "iso8859_1",
    "iso8859_3",
    "iso8859_4",
    "kz",
    "latin",
    "ptcp",
    "utf_7",
    "big5hk",
    "johab",
    "tis",
    "cp037",
    "cp273",
    "cp500",
)
CONTROL = {n: None for n in range(32) if chr(n) not in "\t\n\r\f\x1b"}
CONTROL_SHARE = 0.01


def read_plain_text(data: bytes, step: Step) -> DocumentText:
    """Return `data` as text; what a page would declare is not asked: a text may be about pages."""
    step(len(data) / 1e6)
    encoding = _encoding(data)
    text = data.decode(encoding, "replace")
    control = len(text) - len(text.translate(CONTROL))
    if control > max(FEW, CONTROL_SHARE * len(text)):
        raise RejectedDocumentError(
            "binary", f"{control:,} of {len(text):,} characters are control codes"
        )
    replaced = text.count("\N{REPLACEMENT CHARACTER}")
    if replaced > max(FEW, UNREADABLE_SHARE * len(text)):
        raise RejectedDocumentError(
            "undecodable", f"{replaced:,} of {len(text):,} characters, as {encoding}"
        )
    notes = () if encoding.startswith("utf-8") else (f"read as {encoding}",)
    return DocumentText(text, notes=(*notes, *count_note(replaced, "characters unreadable")))


def _encoding(data: bytes) -> str:
    """Return what `data` is written in.

    Of the single-byte ones that statistics mix up, the commonest.
    """
    encoding = charset.of_file(io.BytesIO(data))
    if not encoding.startswith(RARE):
        return encoding
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return encoding
    return "cp1252"
