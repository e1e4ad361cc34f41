"""The six similarity levels: a candidate and a reference in, a score from 0 to 1 out.

Both null is right, one null is wrong, whatever the level. A score of None means unscored: it
is counted as such and never taken for 0.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from sem.core import jsonio
from sem.core.taskspec import SlotSpec

Scorer = Callable[[Any, Any, SlotSpec], float | None]
Similarity = Callable[[str, str], float]

LEVELS: dict[str, Scorer] = {}


def level(score: Scorer) -> Scorer:
    """Register SCORE under its own name, as TaskSpecs and judge_slots.yaml spell it."""
    LEVELS[score.__name__] = score
    return score


def score(
    candidate: Any, reference: Any, spec: SlotSpec, similarity: Similarity | None = None
) -> float | None:
    """How well CANDIDATE meets REFERENCE at SPEC's level; None when it cannot be scored here."""
    if _is_empty(reference) or _is_empty(candidate):
        return float(_is_empty(reference) and _is_empty(candidate))
    if spec.level == "llm_similarity":
        return llm_similarity(candidate, reference, similarity)
    return LEVELS[spec.level](candidate, reference, spec)


@level
def exact(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when the values are the same JSON: `true` is not `1`, `"1"` is not `1`; 1.0 is 1."""
    return float(_comparable(candidate) == _comparable(reference))


@level
def substring(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when the candidate holds the reference, case and white space apart.

    A candidate longer than three references (or the reference and 200 characters) is 0: an
    answer that pastes the whole page contains everything and says nothing.
    """
    if not isinstance(candidate, str) or not isinstance(reference, str):
        return exact(candidate, reference, spec)
    said, wanted = folded(candidate), folded(reference)
    if len(said) > max(3 * len(wanted), len(wanted) + 200):
        return 0.0
    return float(wanted in said)


@level
def numeric_tol(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when two finite numbers differ by at most the tolerance."""
    said, wanted = _decimal(candidate), _decimal(reference)
    if said is None or wanted is None:
        return exact(candidate, reference, spec)
    # Decimal, because prices sit on the boundary: 20 - 19.99 > 0.01 in floats.
    return float(abs(said - wanted) <= Decimal(str(spec.tolerance)))


@level
def set_match(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """Shared members over all members, order apart; repeats count (["a","a"] is not ["a"])."""
    said, wanted = _members(candidate), _members(reference)
    union = sum((said | wanted).values())
    return sum((said & wanted).values()) / union if union else 1.0


@level
def date_norm(candidate: Any, reference: Any, spec: SlotSpec) -> float:
    """1.0 when both name the same day once read as dates."""
    said, wanted = as_date(candidate), as_date(reference)
    if said is None or wanted is None:
        return exact(candidate, reference, spec)
    return float(said == wanted)


def llm_similarity(candidate: Any, reference: Any, similarity: Similarity | None) -> float | None:
    """Closeness of two texts by SIMILARITY; equal texts are 1.0, None without a scorer."""
    said, wanted = _as_text(candidate), _as_text(reference)
    if folded(said) == folded(wanted):
        return 1.0
    return None if similarity is None else max(0.0, min(1.0, similarity(said, wanted)))


def folded(text: str) -> str:
    """TEXT without differences of case, width, composition and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def as_date(value: Any) -> date | None:
    """The day VALUE names, ISO first; None when it names none completely."""
    from dateutil import parser

    if not isinstance(value, str) or len(value) > 60:
        return None
    try:
        return date.fromisoformat(value.strip()[:10])
    except ValueError:
        pass
    try:
        # Two defaults: a day, month or year that is not written comes out different.
        first = parser.parse(value, default=_day(2000, 1, 1)).date()
        second = parser.parse(value, default=_day(2001, 2, 2)).date()
    except (ValueError, OverflowError, parser.ParserError):
        return None
    return first if first == second else None


def _day(year: int, month: int, day: int) -> Any:
    from datetime import datetime

    return datetime(year, month, day)


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _comparable(value: Any) -> str:
    """Canonical text in which 1 and 1.0 are one number and true stays true."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, list):
        return "[" + ",".join(_comparable(item) for item in value) + "]"
    elif isinstance(value, dict):
        pairs = (f"{jsonio.dumps(k)}:{_comparable(v)}" for k, v in sorted(value.items()))
        return "{" + ",".join(pairs) + "}"
    elif isinstance(value, str):
        value = unicodedata.normalize("NFC", value)
    return jsonio.dumps(value)


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _members(value: Any) -> Counter[str]:
    items = value if isinstance(value, list) else [value]
    return Counter(folded(item) if isinstance(item, str) else _comparable(item) for item in items)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else jsonio.dumps(value)
