"""The six similarity levels: a candidate and a reference in, a score from 0 to 1 out.

Both empty is right, one empty is wrong, whatever the level. A score of None means unscored: it
is counted as such and never taken for 0.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from sem.core.slotspec import SlotSpec
from sem.eval.scoring.dates import as_date
from sem.eval.scoring.values import (
    amounts_agree,
    canonical_text,
    fold_text,
    is_empty_value,
    is_json,
    parse_amount,
    value_text,
)

Scorer = Callable[[Any, Any, SlotSpec], float | None]
Similarity = Callable[[str, str], float]
# Keeps the type of what is registered: most levels never leave a slot unscored.
Level = TypeVar("Level", bound=Scorer)

LEVELS: dict[str, Scorer] = {}
# a shorter reference must stand as a word: "HP" is in "shipping".
SHORT = 4
# Characters beyond the reference.
SLACK = {"substring": 60, "llm_similarity": 500}


def register_level(score: Level) -> Level:
    """Register `score` under its own name, as TaskSpecs and judge_slots.yaml spell it."""
    LEVELS[score.__name__] = score
    return score


def score_slot(
    candidate: Any, reference: Any, spec: SlotSpec, similarity: Similarity | None = None
) -> float | None:
    """Return how well `candidate` meets `reference` at `spec`'s level.

    None when it cannot be scored here.
    """
    if not (is_json(candidate) and is_json(reference)):
        return 0.0
    if is_empty_value(reference) or is_empty_value(candidate):
        return float(is_empty_value(reference) and is_empty_value(candidate))
    if spec.level == "llm_similarity":
        return llm_similarity(candidate, reference, similarity)
    return LEVELS[spec.level](candidate, reference, spec)


@register_level
def exact(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when the values are the same JSON: `true` is not `1`, `"1"` is not `1`; 1.0 is 1."""
    return float(canonical_text(candidate) == canonical_text(reference))


@register_level
def substring(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when the candidate holds the reference, case, typography and white space apart.

    A candidate longer than three references (or the reference and 60 characters) is 0: an
    answer that pastes the whole page contains everything and says nothing. A reference shorter
    than 4 characters must stand as a word, and one that starts or ends in a digit must not go
    on with another: "iPhone 1" is not in "iPhone 15".
    """
    if not isinstance(candidate, str) or not isinstance(reference, str):
        return exact(candidate, reference, spec)
    candidate_text, reference_text = fold_text(candidate), fold_text(reference)
    return float(
        not is_dump(candidate_text, reference_text, "substring")
        and _holds(candidate_text, reference_text)
    )


@register_level
def numeric_tol(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when two finite numbers differ by at most the tolerance."""
    candidate_amount, reference_amount = (
        parse_amount(candidate, spec),
        parse_amount(reference, spec),
    )
    if candidate_amount is None or reference_amount is None:
        return exact(candidate, reference, spec)
    return float(amounts_agree(candidate_amount, reference_amount, spec))


@register_level
def set_match(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """Shared members over all members, order apart; repeats count (["a","a"] is not ["a"])."""
    candidate_members, reference_members = _members(candidate), _members(reference)
    return (candidate_members & reference_members).total() / (
        candidate_members | reference_members
    ).total()


@register_level
def date_norm(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when both name the same day once read as dates (the rules: eval/dates.py)."""
    candidate_date = as_date(candidate, spec.day_first, spec.language)
    reference_date = as_date(reference, spec.day_first, spec.language)
    if candidate_date is None or reference_date is None:
        return exact(candidate, reference, spec)
    return float(candidate_date == reference_date)


def llm_similarity(candidate: Any, reference: Any, similarity: Similarity | None) -> float | None:
    """Closeness of two texts by `similarity`; equal texts are 1.0, None without a scorer."""
    candidate_text, reference_text = value_text(candidate), value_text(reference)
    if fold_text(candidate_text) == fold_text(reference_text):
        return 1.0
    if is_dump(candidate_text, reference_text, "llm_similarity"):
        return 0.0
    if similarity is None:
        return None
    closeness = similarity(candidate_text, reference_text)
    # min(1.0, nan) is 1.0: a scorer that breaks would pass everything.
    return max(0.0, min(1.0, closeness)) if math.isfinite(closeness) else None


def is_dump(candidate: str, reference: str, kind: str) -> bool:
    """Return whether `candidate` is so much longer than `reference` that it answers by saying
    everything.
    """
    return len(candidate) > max(3 * len(reference), len(reference) + SLACK[kind])


def _holds(candidate: str, reference: str) -> bool:
    start = candidate.find(reference)
    while start >= 0:
        before, after = candidate[:start][-1:], candidate[start + len(reference) :][:1]
        if not (
            _runs_on(before, reference[0], reference) or _runs_on(after, reference[-1], reference)
        ):
            return True
        start = candidate.find(reference, start + 1)
    return False


def _runs_on(beside: str, edge: str, reference: str) -> bool:
    """Return whether the character `beside` the `edge` of `reference` makes it part of a longer
    word.
    """
    if edge.isdigit():
        return beside.isdigit()
    return len(reference) < SHORT and _is_cased(beside) and _is_cased(edge)


def _is_cased(character: str) -> bool:
    # Chinese and Japanese have no case and put no space between words.
    return character.isdigit() or character != character.upper()


def _members(value: Any) -> Counter[str]:
    items = value if isinstance(value, list) else [value]
    return Counter(
        fold_text(item) if isinstance(item, str) else canonical_text(item) for item in items
    )
