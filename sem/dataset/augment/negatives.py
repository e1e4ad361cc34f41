"""Wrong answers for preference training: broken JSON, and right JSON with a wrong slot.

    {"price":12.5,"sku":"A1"}   ->   {"price":125.0,"sku":"A1"}   factor_ten, price

A row's own `negative_examples` are taken first. Each is checked to be wrong: not JSON, or its
value differs from the reference by more than a spelling, and no reference of the set has its text.
They are the *rejected* side of a pair and never a target: nothing reads them as examples.
"""

import copy
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import taught_text
from sem.dataset.augment import augment
from sem.dataset.augment.augment import random_of
from sem.dataset.clean import grounding
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot

# The ways an answer goes wrong: each makes one wrong text of a case, None where it cannot.

Slot = tuple[str, ...]


@dataclass
class ReferenceCorpus:
    """What the train part holds: values by task and slot, and every reference's text."""

    values: dict[tuple[str, Slot], list[Any]] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class NegativeCase:
    """One example to go wrong in, with what other rows say."""

    example: Example
    others: ReferenceCorpus

    @property
    def answer(self) -> Any:
        return self.example.output_json


Break = Callable[[NegativeCase, random.Random], "tuple[Slot, str] | None"]
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
        a, b = grounding.SearchableText(value).packed, grounding.SearchableText(other).packed
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


def _chosen(case: NegativeCase, rng: random.Random, fits: Callable[[Any], bool]) -> Slot | None:
    slots = [slot for slot, value in answer_slots(case.answer) if fits(value)]
    return rng.choice(slots) if slots else None


def _replaced(case: NegativeCase, slot: Slot, new: Any) -> tuple[Slot, str]:
    return slot, jsonio.canonical_json(_with(case.answer, slot, new))


def _is_open(case: NegativeCase) -> bool:
    return isinstance(case.answer, dict) and bool(case.answer)


@register_wrong_answer
def truncated(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Cut before the end, as a token limit does."""
    text = jsonio.canonical_json(case.answer)
    is_json = isinstance(case.answer, dict | list) and len(text) > 2
    return ((), text[: rng.randrange(len(text) // 2, len(text))]) if is_json else None


@register_wrong_answer
def trailing_comma(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return a comma before the last bracket."""
    text = jsonio.canonical_json(case.answer)
    return ((), f"{text[:-1]},{text[-1]}") if text[-1:] in ("}", "]") else None


@register_wrong_answer
def single_quotes(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Python's quotes."""
    text = jsonio.canonical_json(case.answer)
    return ((), text.replace('"', "'")) if _is_open(case) else None


@register_wrong_answer
def unquoted_keys(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """JavaScript's keys."""
    if not _is_open(case):
        return None
    return (), re.sub(r'([{,])"(\w+)":', r"\1\2:", jsonio.canonical_json(case.answer))


PROSE = ("Here is the JSON: ", "Sure! ", "The answer is:\n", "Output:\n")


@register_wrong_answer
def prose_before(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return words before the object."""
    return ((), rng.choice(PROSE) + jsonio.canonical_json(case.answer)) if _is_open(case) else None


@register_wrong_answer
def code_fence(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return the object in a Markdown fence."""
    return ((), f"```json\n{jsonio.canonical_json(case.answer)}\n```") if _is_open(case) else None


@register_wrong_answer
def not_a_number(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """NaN where a number or null stands."""
    slot = _chosen(case, rng, lambda value: value is None or _is_number(value))
    if slot is None:
        return None
    mark = "\x00"
    return (), jsonio.canonical_json(_with(case.answer, slot, mark)).replace(
        jsonio.canonical_json(mark), "NaN"
    )


@register_wrong_answer
def duplicate_key(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return one key twice."""
    if not _is_open(case):
        return None
    name = rng.choice(sorted(case.answer))
    pair = jsonio.canonical_json({name: case.answer[name]})[1:-1]
    return (), "{" + pair + "," + jsonio.canonical_json(case.answer)[1:]


@register_wrong_answer
def swapped(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
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
def other_row(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return the value of another row."""
    slot = _chosen(case, rng, lambda value: value not in (None, "", []))
    values = case.others.values.get((case.example.task, slot or ()), [])
    values = [v for v in values if slot and not is_same_answer(v, slot_value(case.answer, slot))]
    return _replaced(case, slot, rng.choice(values)) if slot and values else None


@register_wrong_answer
def nulled(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Null where the input has a value."""
    slot = _chosen(case, rng, lambda value: value not in (None, "", []))
    return _replaced(case, slot, None) if slot else None


@register_wrong_answer
def invented(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return a value that is not in the input, where the reference has none or another."""
    input_text = grounding.SearchableText(case.example.input_text)
    slot = _chosen(case, rng, lambda value: isinstance(value, str) or value is None)
    if slot is None:
        return None
    values = case.others.values.get((case.example.task, slot), [])
    texts = [v for v in values if isinstance(v, str | int | float) and not isinstance(v, bool)]
    absent = [value for value in texts if not grounding.is_grounded(value, input_text)]
    return _replaced(case, slot, rng.choice(absent)) if absent else None


@register_wrong_answer
def factor_ten(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return a number ten times too large or too small, as a lost decimal mark makes it."""
    slot = _chosen(case, rng, lambda value: _is_number(value) and value != 0)
    if slot is None:
        return None
    value = slot_value(case.answer, slot)
    is_whole = isinstance(value, int)
    return _replaced(case, slot, value * 10 if is_whole or rng.random() < 0.5 else value / 10)


@register_wrong_answer
def item_dropped(case: NegativeCase, rng: random.Random) -> tuple[Slot, str] | None:
    """Return the answer without one item of a list."""
    slot = _chosen(case, rng, lambda value: isinstance(value, list) and len(value) > 1)
    if slot is None:
        return None
    items = list(slot_value(case.answer, slot))
    dropped = items.pop(rng.randrange(len(items)))
    return None if dropped in items else _replaced(case, slot, items)


COMMAND = "fab dataset.augment --negatives 2"
# Of one slot, from which another row's is taken.
MOST_VALUES = 256
NOT_APPLICABLE = "not_applicable"
# The kind of a wrong answer that came with its row.
GIVEN = "given"
TARGET = "is_a_reference"
WORDS = ("system_prompt", "slot_specs", "source_id")


@dataclass(frozen=True)
class Negative:
    """A wrong answer: its kind, the slot it is wrong in ('' for the whole), its text."""

    kind: str
    slot: str
    text: str


@dataclass(frozen=True)
class Preferences:
    """A written set of pairs and its facts."""

    facts: dict[str, Any]
    path: Path


def write_negative_pairs(
    project: Project,
    version: int | str | None,
    limit: int,
    seed: int,
    progress: Callable[[Any, int], Any] | None = None,
) -> Preferences:
    """Write at most `limit` pairs for every train row of snapshot `version`, read-only, facts
    last.
    """
    if limit < 1:
        raise SemError(f"{limit} wrong answers of each row", "ask for 1 or more")
    frozen = snapshot.load_snapshot(project, version)
    path, refused, kinds = (
        project.processed / negative_pairs_path(frozen),
        Counter[str](),
        Counter[str](),
    )
    with files.lock_file(project.processed / ".augment.lock", str(path)):
        corpus = collect_reference_corpus(frozen.examples("train"))
        rows = frozen.examples("train")
        rows = progress(rows, frozen.counts["train"]) if progress else rows
        pairs = (
            negative_pair_row(example, negative, kinds)
            for example in rows
            for negative in wrong_answers_of(NegativeCase(example, corpus), limit, seed, refused)
        )
        count = files.write_rows(path, pairs, 0o444)
        facts = {
            "snapshot": frozen.name,
            "snapshot_sha256": frozen.sha256,
            "seed": seed,
            "each": limit,
            "rows": count,
            "by_kind": dict(sorted(kinds.items())),
            "refused": dict(sorted(refused.items())),
            "sha256": files.sha256_file(path),
        }
        augment.write_facts(project, frozen, path, facts)
    return Preferences(facts, path)


def negative_pairs_path(frozen: Snapshot) -> str:
    """Return the file of the pairs of snapshot `frozen`."""
    return f"preferences.{frozen.name}.jsonl"


def negative_pairs_facts(project: Project, frozen: Snapshot) -> dict[str, Any]:
    """Return what the pairs of snapshot `frozen` are.

    Raise SemError when there are none or they changed.
    """
    return augment.read_variant_facts(
        project.processed / negative_pairs_path(frozen), frozen, "pairs", COMMAND
    )


def read_negative_pairs(project: Project, frozen: Snapshot) -> Iterator[dict[str, Any]]:
    """Yield the pairs of snapshot `frozen`, verified before the first one."""
    negative_pairs_facts(project, frozen)
    yield from files.read_rows(project.processed / negative_pairs_path(frozen))


def negative_pair_row(example: Example, negative: Negative, kinds: Counter[str]) -> dict[str, Any]:
    """Return one pair as it is written; `kinds` counts it."""
    kinds[negative.kind] += 1
    words = {name: getattr(example, name) for name in WORDS}
    return {
        "id": example.id,
        "task": example.task,
        "input_text": example.input_text,
        **{name: value for name, value in words.items() if value is not None},
        "chosen": taught_text(example.output_json),
        "rejected": negative.text,
        "kind": negative.kind,
        "slot": negative.slot,
    }


def collect_reference_corpus(examples: Iterator[Example]) -> ReferenceCorpus:
    """Return every reference's text, and the first values of every slot in order of id."""
    corpus = ReferenceCorpus()
    for example in examples:
        corpus.targets.add(files.sha256_text(taught_text(example.output_json)))
        for slot, value in answer_slots(example.output_json):
            held = corpus.values.setdefault((example.task, slot), [])
            if value not in (None, "", []) and len(held) < MOST_VALUES and value not in held:
                held.append(value)
    return corpus


def wrong_answers_of(
    case: NegativeCase, limit: int, seed: int, refused: Counter[str]
) -> Iterator[Negative]:
    """Yield at most `limit` wrong answers of `case`; those that cannot be used are counted.

    The row's own `negative_examples` come first: somebody saw a model give them. The others are
    made, each of another kind.
    """
    for text in _own(case.example):
        reason = _fault(case, text) if limit else "beyond_each"
        if reason:
            refused[f"{GIVEN}:{reason}"] += 1
            continue
        limit -= 1
        yield Negative(GIVEN, "", text)
    rng = random_of(seed, case.example.id, "negative")
    for kind in rng.sample(sorted(KINDS), len(KINDS)):
        if not limit:
            return
        wrong_answer = KINDS[kind](case, rng)
        reason = (
            NOT_APPLICABLE
            if wrong_answer is None
            else _fault(case, wrong_answer[1], wrong_answer[0])
        )
        if wrong_answer is None or reason:
            refused[f"{kind}:{reason}"] += 1
            continue
        limit -= 1
        yield Negative(kind, ".".join(wrong_answer[0]), wrong_answer[1])


def _own(example: Example) -> list[str]:
    """Return the texts of the row's own wrong answers; a text is taken as it was given."""
    answers = example.negative_examples or []
    texts = [answer if isinstance(answer, str) else taught_text(answer) for answer in answers]
    return list(dict.fromkeys(texts))


def _fault(case: NegativeCase, text: str, slot: Slot | None = None) -> str | None:
    """Return why `text` must not be a rejected side: it may be right after all.

    `slot` is where it was made wrong, () for the whole; None where it came with its row.
    """
    if not text.strip():
        return "is_empty"
    if files.sha256_text(text) in case.others.targets:
        return TARGET
    try:
        value = jsonio.parse_json(text)
    except ValueError:
        return None
    if slot == ():
        return "is_valid"
    if slot is not None:
        return "is_equal" if _is_right(case, slot, slot_value(value, slot)) else None
    slots, right_slots = (dict(answer_slots(answer)) for answer in (value, case.answer))
    is_equal = slots.keys() == right_slots.keys() and type(value) is type(case.answer)
    is_equal = is_equal and all(_is_right(case, name, slots[name]) for name in slots)
    return "is_equal" if is_equal else None


def _is_right(case: NegativeCase, slot: Slot, value: Any) -> bool:
    """Return True if `value` in `slot` says what the reference does, or a further right answer."""
    # An alternative may be of a slot around this one: {"seller": [{"name": "ACME GmbH"}]}.
    right = [slot_value(case.answer, slot)]
    for depth in range(1, len(slot) + 1):
        others = case.example.alternatives.get(".".join(slot[:depth]), [])
        right += [slot_value(other, slot[depth:]) for other in others]
    return any(is_same_answer(value, answer) for answer in right)
