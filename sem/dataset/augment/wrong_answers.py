"""The ways an answer goes wrong: each makes one wrong text of a case, None where it cannot."""

import copy
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sem.core import jsonio
from sem.core.example import Example
from sem.dataset.clean import grounding

Slot = tuple[str, ...]


@dataclass
class Known:
    """What the train part holds: values by task and slot, and every reference's text."""

    values: dict[tuple[str, Slot], list[Any]] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Case:
    """One example to go wrong in, with what other rows say."""

    example: Example
    others: Known

    @property
    def answer(self) -> Any:
        return self.example.output_json


Break = Callable[[Case, random.Random], "tuple[Slot, str] | None"]
KINDS: dict[str, Break] = {}


def register_wrong_answer(breaker: Break) -> Break:
    """Register `breaker` under its own name."""
    KINDS[breaker.__name__] = breaker
    return breaker


def is_same_answer(value: Any, other: Any) -> bool:
    """Return whether two values may count as the same: numbers by amount, texts by their words.

    A text inside the other counts as well: a slot of level `substring` would pass it.
    """
    if _is_number(value) and _is_number(other):
        return Decimal(str(value)) == Decimal(str(other))
    if isinstance(value, str) and isinstance(other, str):
        a, b = grounding.Text(value).packed, grounding.Text(other).packed
        return a in b or b in a
    return jsonio.canonical_json(value) == jsonio.canonical_json(other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def answer_slots(value: Any, path: Slot = ()) -> Iterator[tuple[Slot, Any]]:
    """Yield every slot of `value` with what stands there; lists are one slot."""
    if isinstance(value, dict):
        for name in sorted(value):
            yield from answer_slots(value[name], (*path, name))
    elif path:
        yield path, value


def slot_value(value: Any, slot: Slot) -> Any:
    for name in slot:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _with(value: Any, slot: Slot, new: Any) -> Any:
    answer = copy.deepcopy(value)
    here = answer
    for name in slot[:-1]:
        here = here[name]
    here[slot[-1]] = new
    return answer


def _chosen(case: Case, rng: random.Random, fits: Callable[[Any], bool]) -> Slot | None:
    slots = [slot for slot, value in answer_slots(case.answer) if fits(value)]
    return rng.choice(slots) if slots else None


def _replaced(case: Case, slot: Slot, new: Any) -> tuple[Slot, str]:
    return slot, jsonio.canonical_json(_with(case.answer, slot, new))


def _is_open(case: Case) -> bool:
    return isinstance(case.answer, dict) and bool(case.answer)


@register_wrong_answer
def truncated(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Cut before the end, as a token limit does."""
    text = jsonio.canonical_json(case.answer)
    is_json = isinstance(case.answer, dict | list) and len(text) > 2
    return ((), text[: rng.randrange(len(text) // 2, len(text))]) if is_json else None


@register_wrong_answer
def trailing_comma(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return a comma before the last bracket."""
    text = jsonio.canonical_json(case.answer)
    return ((), f"{text[:-1]},{text[-1]}") if text[-1:] in ("}", "]") else None


@register_wrong_answer
def single_quotes(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Python's quotes."""
    text = jsonio.canonical_json(case.answer)
    return ((), text.replace('"', "'")) if _is_open(case) else None


@register_wrong_answer
def unquoted_keys(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """JavaScript's keys."""
    if not _is_open(case):
        return None
    return (), re.sub(r'([{,])"(\w+)":', r"\1\2:", jsonio.canonical_json(case.answer))


PROSE = ("Here is the JSON: ", "Sure! ", "The answer is:\n", "Output:\n")


@register_wrong_answer
def prose_before(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return words before the object."""
    return ((), rng.choice(PROSE) + jsonio.canonical_json(case.answer)) if _is_open(case) else None


@register_wrong_answer
def code_fence(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return the object in a Markdown fence."""
    return ((), f"```json\n{jsonio.canonical_json(case.answer)}\n```") if _is_open(case) else None


@register_wrong_answer
def not_a_number(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """NaN where a number or null stands."""
    slot = _chosen(case, rng, lambda value: value is None or _is_number(value))
    if slot is None:
        return None
    mark = "\x00"
    return (), jsonio.canonical_json(_with(case.answer, slot, mark)).replace(
        jsonio.canonical_json(mark), "NaN"
    )


@register_wrong_answer
def duplicate_key(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return one key twice."""
    if not _is_open(case):
        return None
    name = rng.choice(sorted(case.answer))
    pair = jsonio.canonical_json({name: case.answer[name]})[1:-1]
    return (), "{" + pair + "," + jsonio.canonical_json(case.answer)[1:]


@register_wrong_answer
def swapped(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return the answer with the values of two slots of one type exchanged."""
    items = list(answer_slots(case.answer))
    pairs = [
        (a, b)
        for number, (a, first) in enumerate(items)
        for b, second in items[number + 1 :]
        if type(first) is type(second) and first is not None and not is_same_answer(first, second)
    ]
    if not pairs:
        return None
    first, second = rng.choice(pairs)
    answer = _with(case.answer, first, slot_value(case.answer, second))
    return first, jsonio.canonical_json(_with(answer, second, slot_value(case.answer, first)))


@register_wrong_answer
def other_row(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return the value of another row."""
    slot = _chosen(case, rng, lambda value: value not in (None, "", []))
    values = case.others.values.get((case.example.task, slot or ()), [])
    values = [v for v in values if slot and not is_same_answer(v, slot_value(case.answer, slot))]
    return _replaced(case, slot, rng.choice(values)) if slot and values else None


@register_wrong_answer
def nulled(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Null where the input has a value."""
    slot = _chosen(case, rng, lambda value: value not in (None, "", []))
    return _replaced(case, slot, None) if slot else None


@register_wrong_answer
def invented(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return a value that is not in the input, where the reference has none or another."""
    input_text = grounding.Text(case.example.input_text)
    slot = _chosen(case, rng, lambda value: isinstance(value, str) or value is None)
    if slot is None:
        return None
    values = case.others.values.get((case.example.task, slot), [])
    texts = [v for v in values if isinstance(v, str | int | float) and not isinstance(v, bool)]
    absent = [value for value in texts if not grounding.is_grounded(value, input_text)]
    return _replaced(case, slot, rng.choice(absent)) if absent else None


@register_wrong_answer
def factor_ten(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return a number ten times too large or too small, as a lost decimal mark makes it."""
    slot = _chosen(case, rng, lambda value: _is_number(value) and value != 0)
    if slot is None:
        return None
    value = slot_value(case.answer, slot)
    is_whole = isinstance(value, int)
    return _replaced(case, slot, value * 10 if is_whole or rng.random() < 0.5 else value / 10)


@register_wrong_answer
def item_dropped(case: Case, rng: random.Random) -> tuple[Slot, str] | None:
    """Return the answer without one item of a list."""
    slot = _chosen(case, rng, lambda value: isinstance(value, list) and len(value) > 1)
    if slot is None:
        return None
    items = list(slot_value(case.answer, slot))
    dropped = items.pop(rng.randrange(len(items)))
    return None if dropped in items else _replaced(case, slot, items)
