"""The header of a picture: kind and dimensions, and the picture without what a camera notes.

Nothing is decoded: each function walks lengths that the file states, and stops where they lie.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PNG = b"\x89PNG\r\n\x1a\n"
# PNG chunks that draw; all others only tell.
DRAWN = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"sRGB", b"cHRM", b"iCCP"}
# JPEG segments with text, place or owner: APP1 to APP15 but the colour profile, and comments.
NOTES = {*range(0xE1, 0xF0), 0xFE} - {0xE2, 0xEE}
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
ALONE = {0x01, *range(0xD0, 0xD8)}


@dataclass(frozen=True)
class Head:
    """What a picture says it is."""

    kind: str
    width: int
    height: int


def picture_head(data: bytes) -> Head | None:
    """Kind and dimensions of the picture `data`; None when its header is broken or unknown."""
    try:
        for start, read in (
            (PNG, _png),
            (b"\xff\xd8\xff", _jpeg),
            (b"GIF8", _gif),
            (b"RIFF", _webp),
        ):
            if data.startswith(start):
                return read(data)
    except (struct.error, IndexError):
        return None
    return None


def bare(data: bytes, kind: str) -> bytes:
    """Return `data` without the chunks of a PNG, or the segments of a JPEG, that draw nothing."""
    if kind == "png":
        return PNG + b"".join(part for name, part in _png_chunks(data) if name in DRAWN)
    if kind != "jpeg":
        return data
    parts, end = [data[:2]], 2
    for marker, start, stop in _jpeg_segments(data):
        end = stop
        if marker not in NOTES:
            parts.append(data[start:stop])
    return b"".join([*parts, data[end:]])


def _png(data: bytes) -> Head | None:
    length, name = struct.unpack_from(">I4s", data, 8)
    if name != b"IHDR" or length != 13:
        return None
    return _of("png", *struct.unpack_from(">II", data, 16))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(PNG)
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, data[position : position + 12 + length]
        position += 12 + length


def _jpeg(data: bytes) -> Head | None:
    for marker, start, _ in _jpeg_segments(data):
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", data, start + 5)
            return _of("jpeg", width, height)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the segments before the picture itself."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF or marker in ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xDA:
            return
        length = struct.unpack_from(">H", data, position + 2)[0]
        if length < 2:
            return
        yield marker, position, position + 2 + length
        position += 2 + length


def _gif(data: bytes) -> Head | None:
    return _of("gif", *struct.unpack_from("<HH", data, 6)) if data[4:6] in (b"7a", b"9a") else None


def _webp(data: bytes) -> Head | None:
    form = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if form == b"VP8X":
        sides = (int.from_bytes(data[24 + 3 * n : 27 + 3 * n], "little") + 1 for n in range(2))
        return _of("webp", *sides) if len(data) >= 30 else None
    if form == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return _of("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if form == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return _of("webp", width & 0x3FFF, height & 0x3FFF)
    return None


def _of(kind: str, width: int, height: int) -> Head | None:
    return Head(kind, width, height) if width and height else None
