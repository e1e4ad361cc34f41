"""Which pairs stay: checks by rule first, then near-duplicates, then the teacher where asked.

A pair is kept or dropped by the first check it fails; every check that ran is in its provenance.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sem.forge.base import Pair
from sem.forge.teacher import Teacher

PASSAGE = "passage"  # key of provenance: the text a pair is made from; never written


@dataclass(frozen=True)
class Quality:
    """`quality:` of forge.yaml: the checks and their thresholds."""

    faithful: bool = True  # words, numbers, names and code of the answer stand in its passage
    min_support: float = 0.6  # share of the answer's content words found; higher drops more
    judge: bool = False  # ask the teacher whether the passage supports the answer: one call more
    consistent: bool = False  # ask it its own question again and compare: one call more
    min_agreement: float = 0.4  # token F1 of both answers; higher drops more
    near_threshold: float = 0.8  # Jaccard index of 5-grams of questions; lower drops more
    language: str = "same"  # same (as the passage), any, or an ISO 639-1 code
    min_question: int = 12  # characters
    max_question: int = 600
    min_answer: int = 1
    max_answer: int = 4_000


@dataclass(frozen=True)
class Verdict:
    """What became of one pair."""

    pair: Pair  # with its checks in the provenance and without its passage
    kept: bool
    reason: str | None  # the first check it failed
    checks: dict[str, Any]  # check -> True, False, a number, or why it did not run

    def as_json(self) -> dict[str, Any]:
        """One line of pairs.jsonl or dropped.jsonl."""
        raise NotImplementedError


@dataclass(frozen=True)
class Context:
    """What pairs are checked against."""

    settings: Quality
    others: tuple[tuple[str, str], ...] = ()  # (where, question) of golden and test rows
    teacher: Teacher | None = None


def sift(pairs: Iterable[Pair], context: Context) -> Iterator[Verdict]:
    """A Verdict on every one of PAIRS, in their order."""
    raise NotImplementedError
