"""Bytes of a page to text: byte order mark, then declared charset, then statistics."""

import codecs
import re
from dataclasses import dataclass
from typing import IO

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
# Bytes of a file that are looked through at a time.
SCANNED = 1 << 22
# What `surrogateescape` makes of bytes that are not UTF-8, and whatever is not ASCII.
UNREADABLE = re.compile("[\udc80-\udcff]")
BEYOND_ASCII = re.compile("[^\x00-\x7f]")


@dataclass(frozen=True)
class Decoded:
    """A text, the encoding it was read in, and how many characters could not be read."""

    text: str
    encoding: str
    replaced: int


def decode_page(data: bytes) -> Decoded:
    """Return `data` as text; never fails, unreadable bytes become U+FFFD and are counted."""
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding)
    declared = DECLARED.search(data[:HEAD])
    if declared:
        name = declared[1].decode("ascii").lower()
        decoded = _decoded(data, ALIASES.get(name, name)) if _is_known(name) else None
        if decoded is not None and not decoded.replaced:
            return decoded
    strict = _decoded(data, "utf-8")
    if not strict.replaced or _is_utf8(*_counted(data.decode("utf-8", "surrogateescape"))):
        return strict
    guessed = _decoded(data, _guess(data))
    candidates = [
        decoded for decoded in (decoded if declared else None, guessed, strict) if decoded
    ]
    return min(candidates, key=lambda decoded: decoded.replaced)


def of_file(file: IO[bytes]) -> str:
    """Return the codec for the whole text `file`: its mark, UTF-8, or the likeliest.

    Decided once, over all of it: text that is mostly valid UTF-8 beyond ASCII is UTF-8 whatever
    single bytes say, because other encodings hardly ever form valid sequences by chance. Reading
    8-bit text as UTF-8 would refuse its rows; the other way round would garble every one.
    """
    head = file.read(SCANNED)
    for mark, encoding in BOMS:
        if head.startswith(mark):
            # Codecs of that name take the mark away; those with a byte order keep it.
            return "utf-8-sig" if encoding == "utf-8" else encoding[:6]
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    valid = bad = 0
    telling, data = b"", head
    while data:
        more_valid, more_bad = _counted(decoder.decode(data))
        if more_bad and len(telling) < SAMPLE:
            # Statistics over whole blocks of plain ASCII would see nothing of the encoding.
            telling += b"\n".join(line for line in data.split(b"\n") if not line.isascii())
        valid, bad = valid + more_valid, bad + more_bad
        data = file.read(SCANNED)
    return (
        "utf-8" if _is_utf8(valid, bad) else _guess(telling if head[:SAMPLE].isascii() else head)
    )


def _counted(text: str) -> tuple[int, int]:
    """Return how many characters beyond ASCII were valid UTF-8, and how many bytes were not."""
    bad = 0 if text.isascii() else len(UNREADABLE.findall(text))
    return (0 if text.isascii() else len(BEYOND_ASCII.findall(text)) - bad), bad


def _is_utf8(valid: int, bad: int) -> bool:
    return bad == 0 or valid > bad


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
