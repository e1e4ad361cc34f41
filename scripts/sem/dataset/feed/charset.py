"""Bytes of a page to text: byte order mark, then declared charset, then statistics."""

import codecs
import re
from dataclasses import dataclass

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DECLARED = re.compile(
    rb"<(?:meta|\?xml)[^<>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w:.-]{2,40})", re.I
)
# What browsers read under another name (WHATWG encoding standard); UTF-16 in a meta is a lie,
# as the meta could not have been read.
ALIASES = {
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-9": "cp1254",
    "tis-620": "cp874",
    "utf-16": "utf-8",
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
    "utf8": "utf-8",
}
HEAD = 4_096
SAMPLE = 200_000


@dataclass(frozen=True)
class Decoded:
    """A text, the encoding it was read in, and how many characters could not be read."""

    text: str
    encoding: str
    replaced: int


def decode(data: bytes) -> Decoded:
    """DATA as text; never fails, unreadable bytes become U+FFFD and are counted."""
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding)
    declared = DECLARED.search(data[:HEAD])
    if declared:
        name = declared[1].decode("ascii").lower()
        made = _decoded(data, ALIASES.get(name, name)) if _is_known(name) else None
        if made is not None and not made.replaced:
            return made
    strict = _decoded(data, "utf-8")
    if not strict.replaced:
        return strict
    guessed = _decoded(data, _guess(data))
    candidates = [made for made in (made if declared else None, guessed, strict) if made]
    return min(candidates, key=lambda made: made.replaced)


def of_start(data: bytes) -> str:
    """The codec for a text file that starts with DATA: its mark, UTF-8, or the likeliest."""
    for mark, encoding in BOMS:
        if data.startswith(mark):
            # Codecs of that name take the mark away; those with a byte order keep it.
            return "utf-8-sig" if encoding == "utf-8" else encoding[:6]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return _guess(data)
    return "utf-8"


def _decoded(data: bytes, encoding: str) -> Decoded:
    text = data.decode(encoding, "replace")
    return Decoded(text, encoding, text.count("\N{REPLACEMENT CHARACTER}"))


def _is_known(name: str) -> bool:
    try:
        # Text encodings only: `rot13`, `hex` and `zlib` are codecs, too.
        return codecs.lookup(ALIASES.get(name, name))._is_text_encoding
    except LookupError:
        return False


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:SAMPLE], steps=4).best()
    return best.encoding if best is not None else "cp1252"
