"""Signs of a hallucination that need no judge: keys, labels, values and objects out of nowhere."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sem.core import shape, slotspec
from sem.core.slotspec import SlotSpec
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import grounding
from sem.eval.scoring import slots
from sem.eval.scoring.align import NOTHING, AlignedField, AlignedValue, Alignment
from sem.eval.scoring.taxonomy import says_the_same
from sem.eval.scoring.values import canonical_text, fold_text, is_empty_value


@dataclass(frozen=True)
class Proxies:
    """Counts in one answer; `looked_up` is how many values `ungrounded` is out of."""

    # Keys the schema does not have.
    forbidden_keys: int = 0
    # Labels that are on no list.
    out_of_enum: int = 0
    # Values that are nowhere in the input.
    ungrounded: int = 0
    looked_up: int = 0
    # Objects and members of lists that the reference does not have.
    extra_entities: int = 0
    # Keys beside the schema's own that are not as the reference has them.
    extra_keys: int = 0
    # Values of a slot that neither the input nor the reference holds.
    invented: int = 0


def measure_proxies(
    candidate: Any,
    spec: TaskSpec,
    text: grounding.SearchableText,
    aligned: Alignment,
    reference: Any = NOTHING,
) -> Proxies:
    """Return the Proxies of answer `candidate` to an input `text`; all 0 where there is no answer.

    Without a `reference` no key counts as extra.
    """
    if candidate is NOTHING:
        return Proxies()
    shapes = slotspec.schema_leaves(spec.io_schema, aligned.specs)
    places = list(_places(candidate, spec.io_schema, "", spec))
    looked_up = [
        value
        for value, labels in places
        if labels is None and not is_empty_value(value) and not isinstance(value, bool)
    ]
    return Proxies(
        forbidden_keys=_forbidden(candidate, spec.io_schema, spec),
        out_of_enum=sum(
            labels is not None and value is not None and canonical_text(value) not in labels
            for value, labels in places
        ),
        ungrounded=sum(not grounding.is_grounded(value, text) for value in looked_up),
        looked_up=len(looked_up),
        extra_entities=_extra(aligned),
        extra_keys=0
        if reference is NOTHING
        else _extra_keys(candidate, reference, spec.io_schema, spec),
        invented=sum(
            _invented(pair, text)
            for pair in aligned.pairs
            if labels_of(shapes.get(pair.name, spec.io_schema), pair.name, spec) is None
        ),
    )


def labels_of(kind: Any, name: str, spec: TaskSpec) -> frozenset[str] | None:
    """Return the canonical texts of the values that field `name` of schema `kind` may take.

    None when the field is open.
    """
    kind = shape.resolve_shape(kind, spec.io_schema) or {}
    last = name.rpartition(".")[2]
    listed = spec.label_enums.get(name, spec.label_enums.get(last))
    if listed is not None:
        return frozenset(map(canonical_text, listed))
    if kind.get("enum"):
        return frozenset(map(canonical_text, kind["enum"]))
    is_flag = "boolean" in shape.schema_types(kind) and shape.schema_types(kind) <= {
        "boolean",
        "null",
    }
    return frozenset(("true", "false")) if is_flag else None


def _places(
    value: Any, kind: Any, name: str, spec: TaskSpec
) -> Iterator[tuple[Any, frozenset[str] | None]]:
    """Yield every scalar in `value` with the labels it may be chosen from."""
    held = shape.resolve_shape(kind, spec.io_schema)
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
    held = shape.resolve_shape(kind, spec.io_schema)
    if isinstance(value, list):
        items = (shape.item_schema(held, number) for number in range(len(value)))
        return sum(_forbidden(v, inner, spec) for v, inner in zip(value, items, strict=True))
    if not isinstance(value, dict) or held is None:
        return 0
    properties = held.get("properties", {})
    unknown = 0 if _is_allowed(held, spec) else sum(key not in properties for key in value)
    inner = {key: shape.property_schema(held, key) for key in value}
    return unknown + sum(_forbidden(value[key], inner[key], spec) for key in value)


def _is_allowed(held: shape.Schema, spec: TaskSpec) -> bool:
    # An object without a list of its keys is free-form, whatever the rubric says.
    if "patternProperties" in held or "properties" not in held:
        return held.get("additionalProperties") is not False or "patternProperties" in held
    is_closed = held.get("additionalProperties") is False
    return not (is_closed or spec.rubric.get("forbid_additional_keys") is True)


def _extra_keys(
    candidate: Any, reference: Any, kind: Any, spec: TaskSpec, by_name: bool = False
) -> int:
    """Keys beside the named properties, added, changed or left out: no slot compares them."""
    held = shape.resolve_shape(kind, spec.io_schema) or {}
    if isinstance(candidate, list):
        # Items have no fixed partner here: a key is extra when no item of the reference has it.
        items = (
            [i for i in reference if isinstance(i, dict)] if isinstance(reference, list) else []
        )
        merged_item = {key: value for item in items for key, value in item.items()}
        inner = (shape.item_schema(held, number) for number in range(len(candidate)))
        return sum(
            _extra_keys(v, merged_item, k, spec, by_name=True)
            for v, k in zip(candidate, inner, strict=True)
        )
    named = held.get("properties")
    if not isinstance(candidate, dict) or not named:
        return 0
    theirs = reference if isinstance(reference, dict) else {}
    beside = ({*candidate} if by_name else {*candidate, *theirs}) - named.keys()
    is_same_key = partial(_is_same_key, candidate, theirs, by_name)
    deeper = (
        _extra_keys(candidate[k], theirs.get(k), named[k], spec, by_name)
        for k in candidate.keys() & named
    )
    return sum(not is_same_key(key) for key in beside) + sum(deeper)


def _is_same_key(
    candidate: dict[str, Any], theirs: dict[str, Any], by_name: bool, key: str
) -> bool:
    if key not in candidate or key not in theirs:
        return False
    return by_name or canonical_text(candidate[key]) == canonical_text(theirs[key])


def _invented(pair: AlignedField, text: grounding.SearchableText) -> int:
    """Values said in a slot that stand neither in the input nor in the slot's reference.

    A text of level `substring` passes with words around it that nobody wrote. Free texts (level
    llm_similarity) may say the same in other words, and labels are chosen from a list.
    """
    if pair.spec.level == "llm_similarity":
        return 0
    return sum(_invented_in(part, pair.spec, text) for part in pair.parts)


def _invented_in(part: AlignedValue, spec: SlotSpec, text: grounding.SearchableText) -> int:
    candidate_values = (
        [value for _, value in grounding.scalar_leaves({"": part.said})] if part.is_said else []
    )
    strange = [value for value in candidate_values if not grounding.is_grounded(value, text)]
    if not strange or not part.is_wanted:
        return len(strange)
    is_whole = spec.level not in ("substring", "set_match")
    if is_whole and slots.score_slot(part.said, part.wanted, spec) == 1.0:
        return 0
    reference_values = [value for _, value in grounding.scalar_leaves({"": part.wanted})]
    return sum(
        not any(says_the_same(value, other, spec) for other in reference_values)
        for value in strange
    )


def _extra(aligned: Alignment) -> int:
    objects = sum(items.said - items.paired for items in aligned.items.values())
    return objects + sum(
        _more(part.said, part.wanted) for pair in aligned.pairs for part in pair.parts
    )


def _more(candidate: Any, reference: Any) -> int:
    """Members of the list `candidate` that the list `reference` does not have."""
    if not isinstance(candidate, list) or any(isinstance(item, dict) for item in candidate):
        return 0
    ours, theirs = (
        Counter(
            fold_text(item) if isinstance(item, str) else canonical_text(item) for item in items
        )
        for items in (candidate, reference if isinstance(reference, list) else [])
    )
    return (ours - theirs).total()
