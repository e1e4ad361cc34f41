"""Rows of a contribution that are in the benchmark or the base data already.

A row that is in the benchmark, word for word, by its normal form or nearly, would be graded on
what it taught: it is left out and counted, and above 1 % of them no score is given for acceptance.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sem.dataset import neardup
from sem.preview.contribution import Sample

NEAR = 0.8  # Jaccard index of 5-grams of the normal form
REFUSED_ABOVE = 0.01
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """Which rows of a contribution are where else, by number."""

    benchmark_exact: frozenset[int]
    benchmark_near: frozenset[int]
    base: frozenset[int]  # the same content and label as a base row, or as an earlier row
    contradicts: frozenset[int]  # the same content as a base row with another label

    @property
    def benchmark(self) -> frozenset[int]:
        """Rows that must not be learnt from."""
        return self.benchmark_exact | self.benchmark_near


def normal(sample: Sample) -> str:
    """SAMPLE's content without what does not matter: case, form, punctuation, spaces."""
    if not sample.text:
        return sample.content()
    words = WORD.findall(unicodedata.normalize("NFKC", sample.text).casefold())
    return " ".join(words) or sample.text  # `?!` and `...` are not the same


def find(given: Sequence[Sample], base: Sequence[Sample], benchmark: Sequence[Sample]) -> Overlap:
    """Where the rows GIVEN are in BASE and in BENCHMARK."""
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
    near = _near(given, benchmark) - exact
    return Overlap(frozenset(exact), frozenset(near), frozenset(again), frozenset(against))


def _near(given: Sequence[Sample], benchmark: Sequence[Sample]) -> set[int]:
    """Rows of GIVEN whose text is nearly one of BENCHMARK's; numbers have no near."""
    if not any(sample.text for sample in given):
        return set()
    texts = [sample.text for sample in (*benchmark, *given)]
    count, found = len(benchmark), set()
    for rows in neardup.of_texts(texts, NEAR).members().values():
        tested = [texts[row] for row in rows if row < count]
        # A cluster is a chain: its ends may be far apart.
        for row in (row for row in rows if row >= count):
            if any(neardup.similarity(texts[row], text) >= NEAR for text in tested):
                found.add(row - count)
    return found
