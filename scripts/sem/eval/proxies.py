"""Signs of a hallucination that need no judge: keys, labels, values and objects out of nowhere."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sem.core.slotspec import resolved
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


def labels_of(shape: Any, name: str, spec: TaskSpec) -> frozenset[str] | None:
    """Canonical texts of the values a field NAME of schema SHAPE may take; None: it is open."""
    shape = resolved(shape, spec.io_schema)
    last = name.rpartition(".")[2]
    listed = spec.label_enums.get(name, spec.label_enums.get(last))
    if listed is not None:
        return frozenset(map(canonical, listed))
    if not isinstance(shape, dict):
        return None
    if "const" in shape:
        return frozenset([canonical(shape["const"])])
    if shape.get("type") == "boolean":
        return frozenset(("true", "false"))
    enum = shape.get("enum")
    return frozenset(map(canonical, enum)) if isinstance(enum, list) else None


def _places(
    value: Any, shape: Any, name: str, spec: TaskSpec
) -> Iterator[tuple[Any, frozenset[str] | None]]:
    """Every scalar in VALUE with the labels it may be chosen from."""
    shape = resolved(shape, spec.io_schema)
    shape = shape if isinstance(shape, dict) else {}
    if isinstance(value, dict):
        for key, inner in value.items():
            kind = shape.get("properties", {}).get(key)
            yield from _places(inner, kind, f"{name}.{key}".lstrip("."), spec)
    elif isinstance(value, list):
        for inner in value:
            yield from _places(inner, shape.get("items"), name, spec)
    else:
        yield value, labels_of(shape, name, spec)


def _forbidden(value: Any, shape: Any, spec: TaskSpec) -> int:
    shape = resolved(shape, spec.io_schema)
    if isinstance(value, list):
        items = shape.get("items") if isinstance(shape, dict) else None
        return sum(_forbidden(inner, items, spec) for inner in value)
    if not isinstance(value, dict) or not isinstance(shape, dict):
        return 0
    known = shape.get("properties", {})
    unknown = 0 if _is_allowed(shape, spec) else sum(key not in known for key in value)
    return unknown + sum(_forbidden(value[key], known.get(key), spec) for key in value)


def _is_allowed(shape: dict[str, Any], spec: TaskSpec) -> bool:
    # An object without a list of its keys is free-form, whatever the rubric says.
    if "patternProperties" in shape or "properties" not in shape:
        return shape.get("additionalProperties") is not False or "patternProperties" in shape
    is_closed = shape.get("additionalProperties") is False
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
