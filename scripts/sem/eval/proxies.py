"""Signs of a hallucination that need no judge: keys, labels, values and objects out of nowhere."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sem.core import shape
from sem.core.taskspec import TaskSpec
from sem.dataset import grounding
from sem.eval.align import NOTHING, Alignment
from sem.eval.values import canonical, folded, is_empty


@dataclass(frozen=True)
class Proxies:
    """Counts in one answer; `looked_up` is how many values `ungrounded` is out of."""

    forbidden_keys: int = 0  # keys the schema does not have
    out_of_enum: int = 0  # labels that are on no list
    ungrounded: int = 0  # values that are nowhere in the input
    looked_up: int = 0
    extra_entities: int = 0  # objects and members of lists that the reference does not have


def measure(said: Any, spec: TaskSpec, text: grounding.Text, aligned: Alignment) -> Proxies:
    """The Proxies of answer SAID to an input TEXT; all 0 where there is no answer."""
    if said is NOTHING:
        return Proxies()
    places = list(_places(said, spec.io_schema, "", spec))
    looked_up = [
        value
        for value, labels in places
        if labels is None and not is_empty(value) and not isinstance(value, bool)
    ]
    return Proxies(
        forbidden_keys=_forbidden(said, spec.io_schema, spec),
        out_of_enum=sum(
            labels is not None and value is not None and canonical(value) not in labels
            for value, labels in places
        ),
        ungrounded=sum(not grounding.found(value, text) for value in looked_up),
        looked_up=len(looked_up),
        extra_entities=_extra(aligned),
    )


def labels_of(kind: Any, name: str, spec: TaskSpec) -> frozenset[str] | None:
    """Canonical texts of the values that field NAME of schema KIND may take; None: it is open."""
    kind = shape.resolve(kind, spec.io_schema) or {}
    last = name.rpartition(".")[2]
    listed = spec.label_enums.get(name, spec.label_enums.get(last))
    if listed is not None:
        return frozenset(map(canonical, listed))
    if kind.get("enum"):
        return frozenset(map(canonical, kind["enum"]))
    is_flag = "boolean" in shape.types(kind) and shape.types(kind) <= {"boolean", "null"}
    return frozenset(("true", "false")) if is_flag else None


def _places(
    value: Any, kind: Any, name: str, spec: TaskSpec
) -> Iterator[tuple[Any, frozenset[str] | None]]:
    """Every scalar in VALUE with the labels it may be chosen from."""
    held = shape.resolve(kind, spec.io_schema)
    if isinstance(value, dict):
        for key, inner in value.items():
            place = f"{name}.{key}".lstrip(".")
            yield from _places(inner, shape.property_schema(held, key), place, spec)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, shape.item_schema(held, number), name, spec)
    else:
        yield value, labels_of(held, name, spec)


def _forbidden(value: Any, kind: Any, spec: TaskSpec) -> int:
    held = shape.resolve(kind, spec.io_schema)
    if isinstance(value, list):
        items = (shape.item_schema(held, number) for number in range(len(value)))
        return sum(_forbidden(v, inner, spec) for v, inner in zip(value, items, strict=True))
    if not isinstance(value, dict) or held is None:
        return 0
    known = held.get("properties", {})
    unknown = 0 if _is_allowed(held, spec) else sum(key not in known for key in value)
    inner = {key: shape.property_schema(held, key) for key in value}
    return unknown + sum(_forbidden(value[key], inner[key], spec) for key in value)


def _is_allowed(held: shape.Schema, spec: TaskSpec) -> bool:
    # An object without a list of its keys is free-form, whatever the rubric says.
    if "patternProperties" in held or "properties" not in held:
        return held.get("additionalProperties") is not False or "patternProperties" in held
    is_closed = held.get("additionalProperties") is False
    return not (is_closed or spec.rubric.get("forbid_additional_keys") is True)


def _extra(aligned: Alignment) -> int:
    objects = sum(items.said - items.paired for items in aligned.items.values())
    return objects + sum(
        _more(part.said, part.wanted) for pair in aligned.pairs for part in pair.parts
    )


def _more(said: Any, wanted: Any) -> int:
    """Members of the list SAID that the list WANTED does not have."""
    if not isinstance(said, list) or any(isinstance(item, dict) for item in said):
        return 0
    ours, theirs = (
        Counter(folded(item) if isinstance(item, str) else canonical(item) for item in items)
        for items in (said, wanted if isinstance(wanted, list) else [])
    )
    return (ours - theirs).total()
