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


def normalise_sample(sample: Sample) -> str:
    """`sample`'s content without what does not matter: case, form, punctuation, spaces."""
    if not sample.text:
        return sample.content()
    words = WORD.findall(unicodedata.normalize("NFKC", sample.text).casefold())
    # `?!` and `...` are not the same.
    return " ".join(words) or sample.text


def find_overlap(
    samples: Sequence[Sample], base: Sequence[Sample], benchmark: Sequence[Sample]
) -> Overlap:
    """Return where the rows `samples` are in `base` and in `benchmark`."""
    tested = {normalise_sample(sample) for sample in benchmark}
    base_labels: dict[str, set[str]] = {}
    for sample in base:
        base_labels.setdefault(normalise_sample(sample), set()).add(sample.label)
    exact, again, against = set(), set(), set()
    pairs: set[tuple[str, str]] = set()
    for number, sample in enumerate(samples):
        text = normalise_sample(sample)
        if text in tested:
            exact.add(number)
        if sample.label in base_labels.get(text, ()) or (text, sample.label) in pairs:
            again.add(number)
        elif text in base_labels:
            against.add(number)
        pairs.add((text, sample.label))
    near = (_near(samples, benchmark) | set(_close(samples, benchmark))) - exact
    for number, other in _close(samples, base).items():
        (again if base[other].label == samples[number].label else against).add(number)
    return Overlap(*map(frozenset, (exact, near, again, against - again)))


def _close(samples: Sequence[Sample], others: Sequence[Sample]) -> dict[int, int]:
    """Row of `samples` -> the row of `others` whose numbers are all but its own; no texts."""
    import numpy as np

    if not samples or not others or samples[0].text:
        return {}
    vectors, other_vectors = (
        np.array([sample.features for sample in part], float) for part in (samples, others)
    )
    rows = np.vstack([vectors, other_vectors])
    middle = np.nanmedian(np.where(np.isnan(rows).all(axis=0), 0.0, rows), axis=0)
    spread = np.nanstd(np.where(np.isnan(rows), middle, rows), axis=0)
    vectors, other_vectors = (
        (np.where(np.isnan(part), middle, part) - middle) / np.where(spread > 0, spread, 1.0)
        for part in (vectors, other_vectors)
    )
    matches: dict[int, int] = {}
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        near = (block @ other_vectors.T) * 2 - (other_vectors**2).sum(axis=1)
        best = near.argmax(axis=1)
        # Products cancel where numbers are large: the nearest are measured again.
        apart = ((block - other_vectors[best]) ** 2).mean(axis=1)
        matches |= {start + int(n): int(best[n]) for n in np.flatnonzero(apart <= CLOSE**2)}
    return matches


def _near(samples: Sequence[Sample], benchmark: Sequence[Sample]) -> set[int]:
    """Return rows of `samples` whose text is nearly one of `benchmark`'s."""
    if not any(sample.text for sample in samples):
        return set()
    texts = [sample.text for sample in (*benchmark, *samples)]
    count, near = len(benchmark), set()
    for rows in near_duplicates.of_texts(texts, NEAR).members().values():
        tested = [texts[row] for row in rows if row < count]
        # A cluster is a chain: its ends may be far apart.
        for row in (row for row in rows if row >= count):
            if any(near_duplicates.text_similarity(texts[row], text) >= NEAR for text in tested):
                near.add(row - count)
    return near
