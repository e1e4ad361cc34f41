"""Rows of a contribution that are in the benchmark or the base data already.

A row that is in the benchmark, word for word, by its normal form or nearly, would be graded on
what it taught: it is left out and counted, and above 1 % of them no score is given for acceptance.
A row that is known already teaches nothing, and would only count twice: it is left out, too, as
`dataset.clean` does.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sem.dataset.clean import near_duplicates
from sem.preview.contribution.contribution import Sample

# Jaccard index of 5-grams of the normal form.
NEAR = 0.8
# Root mean square distance of numbers, in spreads of their columns.
CLOSE = 1e-3
# Rows compared with all others at once.
BLOCK = 512
REFUSED_ABOVE = 0.01
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """Which rows of a contribution are where else, by number."""

    benchmark_exact: frozenset[int]
    benchmark_near: frozenset[int]
    # The same content and label as a base row, or as an earlier row.
    base: frozenset[int]
    # The same content as a base row with another label.
    contradicts: frozenset[int]

    @property
    def benchmark(self) -> frozenset[int]:
        """Return rows that must not be learnt from."""
        return self.benchmark_exact | self.benchmark_near

    @property
    def left_out(self) -> frozenset[int]:
        """Return rows that teach nothing or must not: what is left out."""
        return self.benchmark | self.base


def normal(sample: Sample) -> str:
    """`sample`'s content without what does not matter: case, form, punctuation, spaces."""
    if not sample.text:
        return sample.content()
    words = WORD.findall(unicodedata.normalize("NFKC", sample.text).casefold())
    # `?!` and `...` are not the same.
    return " ".join(words) or sample.text


def find_overlap(
    given: Sequence[Sample], base: Sequence[Sample], benchmark: Sequence[Sample]
) -> Overlap:
    """Return where the rows `given` are in `base` and in `benchmark`."""
    tested = {normal(sample) for sample in benchmark}
    known: dict[str, set[str]] = {}
    for sample in base:
        known.setdefault(normal(sample), set()).add(sample.label)
    exact, again, against = set(), set(), set()
    seen: set[tuple[str, str]] = set()
    for number, sample in enumerate(given):
        text = normal(sample)
        if text in tested:
            exact.add(number)
        if sample.label in known.get(text, ()) or (text, sample.label) in seen:
            again.add(number)
        elif text in known:
            against.add(number)
        seen.add((text, sample.label))
    near = (_near(given, benchmark) | set(_close(given, benchmark))) - exact
    for number, other in _close(given, base).items():
        (again if base[other].label == given[number].label else against).add(number)
    return Overlap(*map(frozenset, (exact, near, again, against - again)))


def _close(given: Sequence[Sample], others: Sequence[Sample]) -> dict[int, int]:
    """Row of `given` -> the row of `others` whose numbers are all but its own; texts have none."""
    import numpy as np

    if not given or not others or given[0].text:
        return {}
    left, right = (np.array([one.features for one in part], float) for part in (given, others))
    rows = np.vstack([left, right])
    middle = np.nanmedian(np.where(np.isnan(rows).all(axis=0), 0.0, rows), axis=0)
    spread = np.nanstd(np.where(np.isnan(rows), middle, rows), axis=0)
    left, right = (
        (np.where(np.isnan(part), middle, part) - middle) / np.where(spread > 0, spread, 1.0)
        for part in (left, right)
    )
    found: dict[int, int] = {}
    for start in range(0, len(left), BLOCK):
        block = left[start : start + BLOCK]
        near = (block @ right.T) * 2 - (right**2).sum(axis=1)
        best = near.argmax(axis=1)
        # Products cancel where numbers are large: the nearest are measured again.
        apart = ((block - right[best]) ** 2).mean(axis=1)
        found |= {start + int(n): int(best[n]) for n in np.flatnonzero(apart <= CLOSE**2)}
    return found


def _near(given: Sequence[Sample], benchmark: Sequence[Sample]) -> set[int]:
    """Return rows of `given` whose text is nearly one of `benchmark`'s."""
    if not any(sample.text for sample in given):
        return set()
    texts = [sample.text for sample in (*benchmark, *given)]
    count, found = len(benchmark), set()
    for rows in near_duplicates.of_texts(texts, NEAR).members().values():
        tested = [texts[row] for row in rows if row < count]
        # A cluster is a chain: its ends may be far apart.
        for row in (row for row in rows if row >= count):
            if any(near_duplicates.similarity(texts[row], text) >= NEAR for text in tested):
                found.add(row - count)
    return found
