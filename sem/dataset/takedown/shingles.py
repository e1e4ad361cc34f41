"""Shingles: 64-bit hashes of every 24 letters and digits in a row, to find traces of erased text.

Case, spaces, punctuation, JSON escapes and HTML entities are no obstacle, since only letters and
digits are looked at. Chance: a scan of 10^9 places for 10^6 shingles
meets one by accident with probability 10^9 * 10^6 / 2^64 < 0.0001.
"""

import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

LENGTH, SHIFT = 24, 40
# Shingles kept; of more, those whose hash divides by a power of two.
MOST = 4_000_000
_KEPT = bytes(c for c in range(256) if c >= 128 or chr(c).isalnum())
DROPPED = bytes(c for c in range(256) if c not in _KEPT)
LOWER = bytes(range(256)).lower()
ESCAPE = re.compile(rb'\\(?:u([0-9a-fA-F]{4})|[nrtbf"\\/])')
# U+00A0..U+00BF, U+2000..U+203F and U+3000..U+3003 in UTF-8: spaces, quotes, dashes.
MARKS = re.compile(rb"\xc2[\xa0-\xbf]|\xe2\x80[\x80-\xbf]|\xe3\x80[\x80-\x83]")
ENTITY = re.compile(rb"&#?\w{2,31};")


def fold_bytes(data: bytes) -> bytes:
    """Return `data` as its ASCII letters and digits, in lower case, and what letters lie beyond
    ASCII.
    """
    return (data if data.isascii() else MARKS.sub(b"", data)).translate(LOWER, DROPPED)


def fold_variants(data: bytes) -> Iterator[bytes]:
    """Yield `data` folded: as it stands, with escapes of JSON resolved, and entities of HTML as
    well.
    """
    yield fold_bytes(data)
    if b"\\" in data:
        data = ESCAPE.sub(_unescaped, data)
        yield fold_bytes(data)
    if ENTITY.search(data):
        text = html.unescape(data.decode("utf-8", "replace"))
        yield fold_bytes(text.encode("utf-8", "replace"))


def _unescaped(match: re.Match[bytes]) -> bytes:
    # A lone surrogate becomes `?`: emoji written as two escapes end a shingle, no more.
    return chr(int(match[1], 16)).encode("utf-8", "replace") if match[1] else b" "


def hash_windows(folded: bytes) -> Any:
    """Return the hash of each LENGTH bytes in a row of `folded`, in their order (uint64)."""
    import numpy as np

    if len(folded) < LENGTH:
        return np.empty(0, np.uint64)
    # 24 = 8 + 16: hashes of 1, 2, 4, 8 and 16 bytes, each from two of half its length.
    size, hashes, spans = 1, _table()[np.frombuffer(folded, np.uint8)], {}
    while size <= 16:
        spans[size] = hashes
        hashes = hashes[:-size] * _factor(size) + hashes[size:]
        size *= 2
    places = len(folded) - LENGTH + 1
    both = spans[8][:places] * _factor(16) + spans[16][8 : 8 + places]
    # The finaliser of splitmix64 (Steele et al. 2014).
    both = (both ^ (both >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    both = (both ^ (both >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return both ^ (both >> np.uint64(31))


def _factor(size: int) -> Any:
    import numpy as np

    return np.uint64(pow(0x9E3779B97F4A7C15, size, 1 << 64))


def _table() -> Any:
    """Return a random number for every byte, always the same ones."""
    import numpy as np

    digest = hashlib.shake_256(b"sem shingles").digest(256 * 8)
    return np.frombuffer(digest, "<u8").astype(np.uint64)


class ShingleSet:
    """A set of shingles, made of the texts ERASED; texts that stay are taken out of it again."""

    def __init__(self, hashes: Any, step: int = 1) -> None:
        import numpy as np

        self.hashes, self.step = hashes, step
        self._dead = np.zeros(len(hashes), bool)
        # One bit of the hash's first 24: most places of a text are no member, and known by it.
        self._first = np.zeros(1 << 24, bool)
        self._first[hashes >> hashes.dtype.type(SHIFT)] = True

    @classmethod
    def of(cls, erased: Iterable[str]) -> "ShingleSet":
        """Return the ShingleSet of the texts `erased`."""
        import numpy as np

        step, hashes, parts, size = 1, np.empty(0, np.uint64), [], 0
        for text in erased:
            parts += [_kept(hash_windows(folded), step) for folded in _readings(text)]
            size = sum(map(len, parts)) if len(parts) % 64 == 0 else size
            if size > MOST:
                hashes, step = _thinned(np.unique(np.concatenate([hashes, *parts])), step)
                parts, size = [], 0
        hashes, step = _thinned(np.unique(np.concatenate([hashes, *parts])), step)
        return cls(hashes, step)

    def forget(self, text: str) -> None:
        """Leave out the shingles of `text`: what says the same and stays is not a trace."""
        for folded in _readings(text):
            self._dead[self._places(hash_windows(folded))] = True

    def settled(self) -> "ShingleSet":
        """Return the ShingleSet without what was forgotten."""
        return ShingleSet(self.hashes[~self._dead], self.step)

    def count(self, data: bytes) -> int:
        """Return how many shingles of `data` are in this set."""
        if not len(self.hashes):
            return 0
        return max(len(self._places(hash_windows(folded))) for folded in fold_variants(data))

    def _places(self, hashes: Any) -> Any:
        """Return where in the set those of `hashes` stand that are in it."""
        import numpy as np

        if not len(self.hashes):
            return np.empty(0, np.int64)
        hashes = _kept(hashes, self.step)
        hashes = hashes[self._first[hashes >> hashes.dtype.type(SHIFT)]]
        places = np.searchsorted(self.hashes, hashes)
        places[places == len(self.hashes)] = 0
        return places[self.hashes[places] == hashes]


def _readings(text: str) -> Iterator[bytes]:
    return fold_variants(text.encode("utf-8", "surrogatepass"))


def _kept(hashes: Any, step: int) -> Any:
    return hashes if step == 1 else hashes[(hashes & hashes.dtype.type(step - 1)) == 0]


def _thinned(hashes: Any, step: int) -> tuple[Any, int]:
    """Return at most MOST of `hashes`, by a larger `step` where there are more; and that step."""
    while len(hashes) > MOST:
        step *= 2
        hashes = _kept(hashes, step)
    return hashes, step
