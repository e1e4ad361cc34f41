"""Why a slot failed, in one word.

| word | the answer |
|---|---|
| format | is not a readable object, or puts there what the schema does not allow |
| missing | leaves out a value that the input holds |
| truncated_evidence | lacks a value that the input does not hold (cut, cleaned away, derived) |
| normalisation | says the same in another spelling of text, number or date |
| label | chooses another label of a closed list |
| wrong_neighbour | takes another value of the input |
| hallucinated | says what the input does not hold |
"""

from functools import lru_cache
from typing import Any

from sem.core import schema
from sem.core import shape as shapes
from sem.core.slotspec import SlotSpec
from sem.dataset.clean import grounding
from sem.eval.scoring import values
from sem.eval.scoring.align import NOTHING, AlignedValue
from sem.eval.scoring.dates import as_date

KINDS = (
    "format",
    "missing",
    "truncated_evidence",
    "normalisation",
    "label",
    "wrong_neighbour",
    "hallucinated",
)
_MONEY = SlotSpec("numeric_tol", unit="currency")
# FORMATS' own normalisation: within 0.01 or 0.1 %, where a number's slot names no tolerance.
_NEAR, _NEAR_SHARE = 0.01, 0.001


@lru_cache(maxsize=64)
def index_input_text(input_text: str) -> grounding.SearchableText:
    """Return `input_text` prepared for looking values up."""
    return grounding.groundable_text(input_text)


def failure_kind(
    part: AlignedValue,
    shape: Any,
    is_closed: bool,
    text: grounding.SearchableText,
    root: Any = None,
) -> str:
    """Return why `part`, a field of schema `shape` of the document `root`, failed.

    `is_closed`: its values come from a list.
    """
    if part.said is NOTHING:
        return "format"
    if not part.is_wanted:
        return "hallucinated" if is_closed or not is_found(part.said, text) else "wrong_neighbour"
    if not part.is_said:
        return "missing" if is_closed or is_found(part.wanted, text) else "truncated_evidence"
    return _of_a_wrong_value(part, shape, is_closed, text, root)


def _of_a_wrong_value(
    part: AlignedValue, shape: Any, is_closed: bool, text: grounding.SearchableText, root: Any
) -> str:
    if says_the_same(part.said, part.wanted):
        return "normalisation"
    document = shape if root is None else root
    is_known = shapes.resolve_shape(shape, document) is not None
    if is_known and schema.problems_at(part.said, shape, document, limit=1):
        return "format"
    if is_closed:
        return "label"
    if not is_found(part.wanted, text):
        return "truncated_evidence"
    return "wrong_neighbour" if is_found(part.said, text) else "hallucinated"


def is_found(value: Any, text: grounding.SearchableText) -> bool:
    """Return whether everything in `value` that can be looked for is in `text`."""
    return all(grounding.is_grounded(scalar, text) for _, scalar in grounding.scalar_leaves(value))


def says_the_same(candidate: Any, reference: Any, spec: SlotSpec | None = None) -> bool:
    """Return whether both say the same once case, width, number and date spelling are set aside.

    With `spec` a text is read as a number or date only where the slot's level does: the article
    numbers "1,234" and "1234" are two. Without, wherever both can be read so.
    """
    if values.canonical_text(candidate) == values.canonical_text(reference):
        return True
    if isinstance(candidate, list) and isinstance(reference, list):
        return _members(candidate) == _members(reference)
    if isinstance(candidate, bool) or isinstance(reference, bool):
        return values.fold_text(values.value_text(candidate)) == values.fold_text(
            values.value_text(reference)
        )
    both_text = isinstance(candidate, str) and isinstance(reference, str)
    if both_text and values.fold_text(candidate) == values.fold_text(reference):
        return True
    return _same_number(candidate, reference, spec, both_text) or _same_day(
        candidate, reference, spec
    )


def is_within(candidate: Any, reference: Any, spec: SlotSpec) -> bool:
    """Return whether two numbers are within 0.01 or 0.1 % of each other, if `spec` names no
    tolerance.
    """
    if spec.level != "numeric_tol" or spec.tolerance or spec.relative:
        return False
    near = SlotSpec(
        "numeric_tol",
        tolerance=_NEAR,
        relative=_NEAR_SHARE,
        unit=spec.unit,
        decimal_mark=spec.decimal_mark,
    )
    return _agree(candidate, reference, near)


def _same_number(candidate: Any, reference: Any, spec: SlotSpec | None, both_text: bool) -> bool:
    if both_text and spec is not None and spec.level != "numeric_tol":
        return False
    return _agree(candidate, reference, _MONEY)


def _agree(candidate: Any, reference: Any, spec: SlotSpec) -> bool:
    candidate_amount, reference_amount = (
        values.parse_amount(candidate, spec),
        values.parse_amount(reference, spec),
    )
    return (
        candidate_amount is not None
        and reference_amount is not None
        and values.amounts_agree(candidate_amount, reference_amount, spec)
    )


def _same_day(candidate: Any, reference: Any, spec: SlotSpec | None) -> bool:
    if spec is not None and spec.level != "date_norm":
        return False
    order, language = (spec.day_first, spec.language) if spec else (None, None)
    candidate_day, reference_day = (
        as_date(candidate, order, language),
        as_date(reference, order, language),
    )
    return candidate_day is not None and candidate_day == reference_day


def _members(items: list[Any]) -> list[str]:
    return sorted(
        values.fold_text(item) if isinstance(item, str) else values.canonical_text(item)
        for item in items
    )
