"""Near-duplicates: MinHash bands to find candidates, the exact Jaccard index to decide.

A text is the set of 5-grams of its letters and digits (case, punctuation and spaces aside). Two
texts are near-duplicates when those sets agree by THRESHOLD of their union. Candidates share one
of 20 bands of 6 minima (Broder 1997; banding: Leskovec et al., Mining of Massive Datasets, 3.4):
1 - (1 - 0.8^6)^20 = 99.8 % of the pairs at 0.8 are seen. Every candidate is then compared
exactly, so what limits precision is the threshold alone.
"""

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

BANDS, WIDTH = 20, 6
GRAM = 5
SEED = 42
THRESHOLD = 0.8
# In a band with thousands of members each is compared with so many clusters at most.
MOST_COMPARED = 32
CACHED = 2_000
NOT_WORD = re.compile(r"[\W_]+")
FACTORS = tuple(pow(0x100000001B3, power, 1 << 64) for power in reversed(range(GRAM)))


def grams(text: str) -> Any:
    """Distinct 64-bit hashes of the 5-grams of TEXT, sorted (uint64); of the whole when shorter.

    Empty when TEXT holds no letter and no digit.
    """
    import numpy as np

    folded = " ".join(NOT_WORD.split(unicodedata.normalize("NFKC", text).casefold())).strip()
    if not folded:
        return np.empty(0, np.uint64)
    points = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    points = np.concatenate([points, np.zeros(max(0, GRAM - len(points)), np.uint64)])
    windows = len(points) - GRAM + 1
    made = np.zeros(windows, np.uint64)
    for place, factor in enumerate(FACTORS):
        made += points[place : place + windows] * np.uint64(factor)
    # The finaliser of splitmix64 (Steele et al. 2014): neighbours must not hash alike.
    made = (made ^ (made >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    made = (made ^ (made >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.unique(made ^ (made >> np.uint64(31)))


def bands(text: str) -> bytes:
    """The 20 band keys of TEXT, 8 bytes each; b'' for a text without letters and digits."""
    hashes = grams(text)
    return _keys(hashes) if len(hashes) else b""


def _keys(hashes: Any) -> bytes:
    import numpy as np
    from rensa import RMinHash

    digest = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, [0, len(hashes)], num_perm=BANDS * WIDTH, seed=SEED
    )
    minima = np.array(digest.to_rows()[0], np.uint64).reshape(BANDS, WIDTH)
    made = np.zeros(BANDS, np.uint64)
    for column in range(WIDTH):
        made = (made ^ minima[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        made ^= made >> np.uint64(29)
    return bytes(made.astype("<u8").tobytes())


def similarity(a: str, b: str) -> float:
    """The Jaccard index of the 5-grams of A and B; 0.0 when either has none."""
    return jaccard(grams(a), grams(b))


def jaccard(a: Any, b: Any) -> float:
    """Shared over all of two sorted arrays without repeats; 0.0 when either is empty."""
    import numpy as np

    if not len(a) or not len(b):
        return 0.0
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


@dataclass(frozen=True)
class Clusters:
    """For each row the number of the first row of its cluster; how that was found."""

    first: list[int]
    compared: int  # pairs whose index was computed
    skipped: int  # candidate pairs beyond MOST_COMPARED that were not
    pairs: list[tuple[int, int, float]] = field(default_factory=list)  # joined, with their index

    def members(self) -> dict[int, list[int]]:
        """The rows of every cluster of two or more, by its first row."""
        found: dict[int, list[int]] = {}
        for row, head in enumerate(self.first):
            if row != head:
                found.setdefault(head, [head]).append(row)
        return found


def cluster(keys: Any, text_of: Callable[[int], str], threshold: float = THRESHOLD) -> Clusters:
    """Rows joined wherever a chain of pairs agrees by THRESHOLD (single linkage).

    KEYS is uint64 of shape (rows, 20); a row of zeros has no text and stays alone. TEXT_OF gives
    the text of a row. Memory: about 40 bytes a row besides KEYS, which may be mapped from a file.
    """
    join = _Join(len(keys), text_of, threshold)
    for band in range(BANDS):
        for group in _same(keys[:, band]):
            join.group(group)
    return Clusters([join.find(n) for n in range(len(keys))], join.compared, join.skipped,
                    join.pairs)  # fmt: skip


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

    def __init__(self, rows: int, text_of: Callable[[int], str], threshold: float) -> None:
        from array import array

        self._leader = array("l", range(rows))
        self._text_of, self._threshold = text_of, threshold
        self._grams: OrderedDict[int, Any] = OrderedDict()
        self.compared = self.skipped = 0
        self.pairs: list[tuple[int, int, float]] = []

    def find(self, row: int) -> int:
        leader = self._leader
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    def group(self, rows: Sequence[int]) -> None:
        """Compare each of ROWS with one member of every cluster before it, the newest first."""
        seen: OrderedDict[int, int] = OrderedDict()
        for row in rows:
            near = list(reversed(seen.items()))
            self.skipped += max(0, len(near) - MOST_COMPARED)
            for head, other in near[:MOST_COMPARED]:
                if self.find(row) == self.find(head):
                    break
                if self._agree(other, row):
                    break
            seen.pop(self.find(row), None)
            seen[self.find(row)] = row

    def _agree(self, a: int, b: int) -> bool:
        self.compared += 1
        index = jaccard(self._of(a), self._of(b))
        if index < self._threshold:
            return False
        low, high = sorted((self.find(a), self.find(b)))
        self._leader[high] = low
        self.pairs.append((min(a, b), max(a, b), round(index, 4)))
        return True

    def _of(self, row: int) -> Any:
        found = self._grams.pop(row, None)
        if found is None:
            found = grams(self._text_of(row))
        self._grams[row] = found
        if len(self._grams) > CACHED:
            self._grams.popitem(last=False)
        return found
