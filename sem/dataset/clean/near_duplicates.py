"""Near-duplicates: MinHash bands to find candidates, the exact Jaccard index to decide.

A text is the set of 5-grams of its letters, digits and currency signs, case aside. Two texts are
near-duplicates when those sets agree by THRESHOLD of their union. Candidates share a band of
minima (Broder 1997; banding: Leskovec et al., Mining of Massive Datasets, 3.4), as many and as
wide as sees 99 % of the pairs at the threshold. One byte of each of the 120 minima (Li and König
2010) then tells the likeness to 0.04; what is not 0.15 below the threshold by that is compared
exactly, so precision depends on no estimate.
"""

import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

MINIMA = 120
# Bands and their widths.
SHAPES = ((20, 6), (30, 4), (40, 3), (60, 2), (120, 1))
SEEN = 0.99
# Four standard errors of the estimate by 120 bytes.
MARGIN = 0.15
# Of a sketch, in words of 8 bytes.
BYTES = MINIMA // 8
GRAM = 5
CURRENCIES = "$¢£¤¥֏؋฿៛﷼"
SEED = 42
THRESHOLD = 0.8
# In a band with thousands of members each is compared with so many clusters at most.
MOST_COMPARED = 32
CACHED = 2_000
FACTORS = tuple(pow(0x100000001B3, power, 1 << 64) for power in reversed(range(GRAM)))
CHUNK = 256


def choose_band_shape(threshold: float) -> tuple[int, int]:
    """Return the number of bands and the number of minima in each.

    They are the widest that find the share SEEN of the pairs at `threshold`.
    """
    for count, width in SHAPES:
        if 1 - (1 - threshold**width) ** count >= SEEN:
            return count, width
    return SHAPES[-1]


def hash_ngrams(text: str) -> Any:
    """Distinct 64-bit hashes of the 5-grams of `text`, sorted (uint64); of the whole when shorter.

    Empty when `text` holds no letter and no digit.
    """
    import numpy as np

    return np.unique(_hashes(text))


def _hashes(text: str) -> Any:
    """Return the hash of every 5-gram of `text`, in order."""
    import numpy as np

    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    points = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), "<u4")
    is_word = _word_characters()[points]
    # One space between words: a character that is none stays where it follows one that is.
    stays = is_word.copy()
    stays[1:] |= is_word[:-1]
    points = np.where(is_word, points, 32)[stays].astype(np.uint64)
    points = points[:-1] if len(points) and points[-1] == 32 else points
    if not len(points):
        return points
    points = np.concatenate([points, np.zeros(max(0, GRAM - len(points)), np.uint64)])
    windows = len(points) - GRAM + 1
    hashes = points[:windows] * FACTORS[0]
    for place in range(1, GRAM):
        hashes += points[place : place + windows] * FACTORS[place]
    # The finaliser of splitmix64 (Steele et al. 2014): neighbours must not hash alike.
    hashes = (hashes ^ (hashes >> 30)) * 0xBF58476D1CE4E5B9
    hashes = (hashes ^ (hashes >> 27)) * 0x94D049BB133111EB
    return hashes ^ (hashes >> 31)


@cache
def _word_characters() -> Any:
    """For every code point whether it is a letter, digit or currency sign (bool, 1.1 MB)."""
    import sys

    import numpy as np

    is_word = np.fromiter((chr(n).isalnum() for n in range(sys.maxunicode + 1)), np.bool_)
    is_word[[ord(sign) for sign in CURRENCIES]] = True  # `1 €` is not `1 £`
    is_word[0x20A0:0x20D0] = True
    return is_word


def sketch_texts(texts: Sequence[str], threshold: float = THRESHOLD) -> Any:
    """Return what stands for each of `texts`: uint64 of shape (texts, bands + 15).

    First its band keys, so many as shape(`threshold`) says; then a byte of each of its 120 minima.
    Zeros for a text without letters and digits.
    """
    import numpy as np
    from rensa import RMinHash

    count, width = choose_band_shape(threshold)
    hashed = [_hashes(text) for text in texts]
    ends = np.cumsum([0, *map(len, hashed)])
    digest = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate([np.empty(0, np.uint64), *hashed]),
        ends.tolist(),
        num_perm=MINIMA,
        seed=SEED,
    )
    minima = np.array(digest.to_rows(), np.uint64).reshape(len(hashed), MINIMA)
    keys = np.zeros((len(hashed), count), np.uint64)
    for column in range(width):
        keys = (keys ^ minima[:, column::width]) * 0x9E3779B97F4A7C15
        keys ^= keys >> 29
    low = (minima & 0xFF).astype(np.uint8).view("<u8")
    keys = np.concatenate([keys, low], axis=1).astype("<u8")
    keys[ends[1:] == ends[:-1]] = 0
    return keys


def empty_sketch(threshold: float) -> bytes:
    """Return the sketch of a row that has no text."""
    return bytes(8 * sketch_words(threshold))


def sketch_words(threshold: float) -> int:
    """Return how many uint64 a sketch has."""
    return choose_band_shape(threshold)[0] + BYTES


def text_similarity(a: str, b: str) -> float:
    """Return the Jaccard index of the 5-grams of A and B; 0.0 when either has none."""
    return jaccard_index(hash_ngrams(a), hash_ngrams(b))


def jaccard_index(a: Any, b: Any, least: float = 0.0) -> float:
    """Shared over all of two sorted arrays without repeats; 0.0 when it cannot reach `least`."""
    import numpy as np

    if not len(a) or not len(b) or min(len(a), len(b)) < least * max(len(a), len(b)):
        return 0.0
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


@dataclass(frozen=True)
class NearDuplicateClusters:
    """For each row the number of the first row of its cluster; how that was found."""

    first: list[int]
    # Pairs whose index was computed.
    compared: int
    # Candidate pairs beyond MOST_COMPARED that were not.
    skipped: int

    def members(self) -> dict[int, list[int]]:
        """Return the rows of every cluster of two or more, by its first row."""
        clusters: dict[int, list[int]] = {}
        for row, head in enumerate(self.first):
            if row != head:
                clusters.setdefault(head, [head]).append(row)
        return clusters


def cluster_near_duplicates(
    keys: Any,
    text_of: Callable[[int], str],
    threshold: float = THRESHOLD,
    numbers: Any = None,
) -> NearDuplicateClusters:
    """Return rows joined wherever a chain of pairs agrees by `threshold` (single linkage).

    `keys` is what `sketches` gives, also mapped from a file; `numbers`
    holds the numbers of the rows to look at, by default all, and rows are numbered as in it.
    `text_of`(row) is the input of a row. Memory: about 40 bytes a row besides `keys`.
    """
    import numpy as np

    numbers = np.arange(len(keys)) if numbers is None else numbers
    join = _Join(keys, numbers, text_of, threshold)
    for band in range(choose_band_shape(threshold)[0]):
        for group in _same(keys[:, band][numbers]):
            join.group(group)
    first = [join.find(n) for n in range(len(numbers))]
    return NearDuplicateClusters(first, join.compared, join.skipped)


def of_texts(texts: Sequence[str], threshold: float = THRESHOLD) -> NearDuplicateClusters:
    """Return the clusters among `texts`, all in memory."""
    import numpy as np

    keys = np.concatenate(
        [np.empty((0, sketch_words(threshold)), "<u8")]
        + [sketch_texts(texts[n : n + CHUNK], threshold) for n in range(0, len(texts), CHUNK)]
    )
    return cluster_near_duplicates(keys, texts.__getitem__, threshold)


def _same(column: Any) -> Iterator[Sequence[int]]:
    """Row numbers that share a value other than 0, each group ascending."""
    import numpy as np

    column = np.ascontiguousarray(column)
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(ordered))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        if ordered[start]:
            yield order[start:end].tolist()


class _Join:
    """Disjoint sets of rows, joined by comparing texts; the smallest row leads its set."""

    def __init__(
        self, keys: Any, numbers: Any, text_of: Callable[[int], str], threshold: float
    ) -> None:
        from array import array

        self._keys, self._numbers = keys, numbers
        self._leader = array("l", range(len(numbers)))
        self._text_of, self._threshold = text_of, threshold
        self._grams: OrderedDict[int, Any] = OrderedDict()
        self.compared = self.skipped = 0

    def find(self, row: int) -> int:
        leader = self._leader
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    def group(self, rows: Sequence[int]) -> None:
        """Compare each of `rows` with one member of every cluster before it, the newest first."""
        newest: OrderedDict[int, int] = OrderedDict()
        for row in rows:
            near = list(reversed(newest.items()))
            self.skipped += max(0, len(near) - MOST_COMPARED)
            for head, other in near[:MOST_COMPARED]:
                if self.find(row) == self.find(head):
                    break
                if self._agree(other, row):
                    break
            newest.pop(self.find(row), None)
            newest[self.find(row)] = row

    def _agree(self, a: int, b: int) -> bool:
        ends = [self._keys[self._numbers[n], -BYTES:].view("u1") for n in (a, b)]
        if (ends[0] == ends[1]).mean() < self._threshold - MARGIN:
            return False
        self.compared += 1
        if jaccard_index(self._of(a), self._of(b), self._threshold) < self._threshold:
            return False
        low, high = sorted((self.find(a), self.find(b)))
        self._leader[high] = low
        return True

    def _of(self, row: int) -> Any:
        row_grams = self._grams.pop(row, None)
        if row_grams is None:
            row_grams = hash_ngrams(self._text_of(row))
        self._grams[row] = row_grams
        if len(self._grams) > CACHED:
            self._grams.popitem(last=False)
        return row_grams
