"""Two answers side by side, field by field: nested objects opened, lists of objects aligned.

Items of a list are paired so that the sum of their closeness is largest (Kuhn 1955, by
`scipy.optimize.linear_sum_assignment`); an item without a partner is missing or extra.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sem.core.slotspec import SlotSpec
from sem.eval.answers.answers import NOTHING
from sem.eval.scoring import slots
from sem.eval.scoring.values import canonical_text, fold_text, is_empty_value, value_text

# a key the reference does not write.
ABSENT = object()
# Mean closeness of fields from which two items are one.
PARTNERS_FROM = 0.3
# Items a side that are compared with each other; the rest have no partner.
MAX_ITEMS = 100


@dataclass(frozen=True)
class AlignedValue:
    """One decision: what was said where this was wanted (ABSENT: the key is not written)."""

    said: Any
    wanted: Any

    @property
    def is_wanted(self) -> bool:
        return self.wanted is not ABSENT and not is_empty_value(self.wanted)

    @property
    def is_said(self) -> bool:
        return self.said is not NOTHING and not is_empty_value(self.said)


@dataclass(frozen=True)
class AlignedField:
    """A compared field: one part, or for a field of a list of objects one an item."""

    name: str
    spec: SlotSpec
    parts: tuple[AlignedValue, ...]


@dataclass(frozen=True)
class Items:
    """How many objects stood where, and how many of them have a partner."""

    said: int
    wanted: int
    paired: int

    def __add__(self, other: "Items") -> "Items":
        return Items(
            self.said + other.said, self.wanted + other.wanted, self.paired + other.paired
        )


@dataclass
class Alignment:
    """The compared fields of two answers, and the lists and objects they stood in."""

    parts: dict[str, list[AlignedValue]] = field(default_factory=lambda: defaultdict(list))
    specs: dict[str, SlotSpec] = field(default_factory=dict)
    items: dict[str, Items] = field(default_factory=dict)

    @property
    def pairs(self) -> list[AlignedField]:
        return [AlignedField(name, self.specs[name], tuple(p)) for name, p in self.parts.items()]


@dataclass(frozen=True)
class _Node:
    path: str
    spec: SlotSpec | None = None
    is_list: bool = False
    children: dict[str, "_Node"] = field(default_factory=dict)

    @property
    def is_critical(self) -> bool:
        own = self.spec is not None and self.spec.critical
        return own or any(child.is_critical for child in self.children.values())


def align_answer(candidate: Any, reference: Any, levels: Mapping[str, SlotSpec]) -> Alignment:
    """Return `candidate` against `reference` in every field of `levels`.

    A key that the reference does not write is a decision only where the answer puts a value
    there: otherwise an answer of one field would be rewarded with all the optional ones.
    """
    sides = [side for side in (candidate, reference) if isinstance(side, dict)]
    # a key that is spelt like a path.
    literal = frozenset(
        name for name in levels if "." in name and any(name in side for side in sides)
    )
    alignment = Alignment()
    _walk(_tree(tuple(levels.items()), literal), _object(candidate), reference, alignment)
    return alignment


def best_reference(
    reference: Any,
    alternatives: Mapping[str, Sequence[Any]],
    levels: Mapping[str, SlotSpec],
    worth: Callable[[Any, Collection[str]], float],
) -> Any:
    """Return `reference` with, in each slot of `alternatives`, its best right answer.

    Annotators of a benchmark may accept several values of a field; an answer is as right as it
    is beside the nearest of them, field by field. `worth(reference, names)` is what the answer is
    worth in the fields NAMES; of equals the reference's own value stays. A slot that is opened
    (`seller` of `seller.name`) is chosen as a whole.
    """
    for slot, values in alternatives.items():
        names = [n for n in levels if n == slot or n.startswith((f"{slot}.", f"{slot}[]."))]
        if names:
            choices = [reference, *(_with_value(reference, slot, value) for value in values)]
            reference = max(choices, key=lambda choice: worth(choice, names))
    return reference


def _with_value(reference: Any, slot: str, value: Any) -> Any:
    if not isinstance(reference, dict):
        return value
    head, _, rest = slot.partition(".")
    if not rest or slot in reference:
        return reference | {slot: value}
    return reference | {head: _with_value(reference.get(head) or {}, rest, value)}


@lru_cache(maxsize=256)
def _tree(levels: tuple[tuple[str, SlotSpec], ...], literal: frozenset[str]) -> _Node:
    root = _Node("")
    for name, spec in levels:
        here = root
        *outer, last = [name] if name in literal else name.split(".")
        for step in outer:
            path = f"{here.path}.{step}".lstrip(".")
            inner = _Node(path, is_list=step.endswith("[]"))
            here = here.children.setdefault(step.removesuffix("[]"), inner)
        here.children[last] = _Node(name, spec)
    return root


def _object(candidate: Any) -> Any:
    return candidate if isinstance(candidate, dict) else NOTHING


def _walk(node: _Node, candidate: Any, reference: Any, alignment: Alignment) -> None:
    for key, child in node.children.items():
        candidate_part = (
            candidate
            if candidate is NOTHING
            else candidate.get(key)
            if isinstance(candidate, dict)
            else None
        )
        reference_part = reference.get(key, ABSENT) if isinstance(reference, dict) else ABSENT
        if child.spec is not None:
            _decide(
                child.path, child.spec, AlignedValue(candidate_part, reference_part), alignment
            )
            continue
        before = sum(map(len, alignment.parts.values()))
        (_walk_list if child.is_list else _walk_object)(
            child, candidate_part, reference_part, alignment
        )
        if sum(map(len, alignment.parts.values())) == before:
            # Nothing below: null for null, or a text where an object should be.
            spec = SlotSpec(critical=child.is_critical)
            _decide(
                child.path.removesuffix("[]"),
                spec,
                AlignedValue(candidate_part, reference_part),
                alignment,
            )


def _decide(path: str, spec: SlotSpec, part: AlignedValue, alignment: Alignment) -> None:
    if part.wanted is not ABSENT or part.is_said:
        alignment.specs[path] = spec
        alignment.parts[path].append(part)


def _walk_object(node: _Node, candidate: Any, reference: Any, alignment: Alignment) -> None:
    is_extra = isinstance(candidate, dict) and candidate and not isinstance(reference, dict)
    if is_extra:
        _count(node.path, Items(1, 0, 0), alignment)
    if is_extra or (isinstance(reference, dict) and reference):
        _walk(node, candidate, reference, alignment)


def _walk_list(node: _Node, candidate: Any, reference: Any, alignment: Alignment) -> None:
    ours = candidate if isinstance(candidate, list) else []
    theirs = reference if isinstance(reference, list) else []
    partners = match_list_items(node, ours, theirs)
    if ours or theirs:
        _count(node.path, Items(len(ours), len(theirs), len(partners)), alignment)
    for i, j in partners:
        _walk(node, ours[i], theirs[j], alignment)
    alone = Alignment()
    paired = {i for i, _ in partners}, {j for _, j in partners}
    for j, item in enumerate(theirs):
        if j not in paired[1]:
            _walk(node, NOTHING if candidate is NOTHING else None, item, alone)
    for i, item in enumerate(ours):
        if i not in paired[0]:
            _walk(node, item, ABSENT, alone)
    for pair in alone.pairs:
        for part in pair.parts:
            # An empty field of a lost item is not a decision.
            if part.is_wanted or part.is_said:
                _decide(pair.name, pair.spec, part, alignment)


def _count(path: str, items: Items, alignment: Alignment) -> None:
    alignment.items[path] = alignment.items.get(path, Items(0, 0, 0)) + items


def match_list_items(
    node: _Node, ours: Sequence[Any], theirs: Sequence[Any]
) -> list[tuple[int, int]]:
    """Index pairs of the items of `ours` and `theirs` that belong together, by best assignment."""
    same = _identical(ours, theirs)
    our_indexes = [i for i in range(len(ours)) if i not in same][:MAX_ITEMS]
    their_indexes = [j for j in range(len(theirs)) if j not in set(same.values())][:MAX_ITEMS]
    if not our_indexes or not their_indexes:
        return sorted(same.items())
    from scipy.optimize import linear_sum_assignment

    close = [[_closeness(node, ours[i], theirs[j]) for j in their_indexes] for i in our_indexes]
    # Among equal sums the written order: two lines of the same article stay first and second.
    ranked = [
        [value - 1e-6 * abs(i - j) / MAX_ITEMS for j, value in enumerate(row)]
        for i, row in enumerate(close)
    ]
    rows, columns = linear_sum_assignment(ranked, maximize=True)
    assignment = zip(rows.tolist(), columns.tolist(), strict=True)
    near = {
        our_indexes[i]: their_indexes[j] for i, j in assignment if close[i][j] >= PARTNERS_FROM
    }
    return sorted((same | near).items())


def _identical(ours: Sequence[Any], theirs: Sequence[Any]) -> dict[int, int]:
    places: dict[str, list[int]] = defaultdict(list)
    for j in reversed(range(len(theirs))):
        places[canonical_text(theirs[j])].append(j)
    partners = {}
    for i, item in enumerate(ours):
        if waiting := places.get(canonical_text(item)):
            partners[i] = waiting.pop()
    return partners


def _closeness(node: _Node, candidate: Any, reference: Any) -> float:
    """Return mean closeness of the fields of two items, 0 to 1."""
    if not (isinstance(candidate, dict) and isinstance(reference, dict)):
        return 0.0
    alignment = Alignment()
    _walk(node, candidate, reference, alignment)
    near = [
        _near(part, pair.spec)
        for pair in alignment.pairs
        for part in pair.parts
        if part.is_said or part.is_wanted
    ]
    return sum(near) / len(near) if near else 0.0


def _near(part: AlignedValue, spec: SlotSpec) -> float:
    if not (part.is_said and part.is_wanted):
        return 0.0
    rule = slots.score_slot(part.said, part.wanted, spec)
    if rule == 1.0 or not isinstance(part.wanted, str):
        return rule or 0.0
    candidate_words, reference_words = (
        Counter(fold_text(value_text(v)).split()) for v in (part.said, part.wanted)
    )
    shared = (
        2
        * (candidate_words & reference_words).total()
        / ((candidate_words + reference_words).total() or 1)
    )
    return max(rule or 0.0, shared)
