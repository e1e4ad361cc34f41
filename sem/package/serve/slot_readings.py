"""Each value of an answer by itself: where it stands in the text, how sure it is, if the page
holds it.

    {"price":12.99,"tags":["new"]}   ->   price at 9..14, tags[0] at 23..28
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from sem.core import jsonio, shape
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import grounding
from sem.dataset.clean.grounding import SearchableText

_BLANK = " \t\n\r"


@dataclass(frozen=True)
class SlotReading:
    """One scalar of an answer.

    `confidence` is the mean probability of the value's tokens, under the mask of the schema; None
    where the engine tells none. `grounded`: whether the page holds the value; None where that
    is not asked: null, true, false, the empty text, and values that the schema lists.
    """

    slot: str
    value: Any
    confidence: float | None = None
    grounded: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return this reading as the HTTP API and `package.predict` write it."""
        confidence = None if self.confidence is None else round(self.confidence, 4)
        return {"value": self.value, "confidence": confidence, "grounded": self.grounded}


@dataclass(frozen=True)
class ValueSpan:
    """Where the scalar of `slot`, as `offers[0].price`, stands in an answer's text."""

    slot: str
    start: int
    end: int


def find_value_spans(text: str) -> list[ValueSpan]:
    """Return where each scalar of the JSON `text` stands; raise ValueError when it is no JSON."""
    jsonio.parse_json(text)
    spans: list[ValueSpan] = []
    _value(text, _past_blank(text, 0), "", spans)
    return spans


def _value(text: str, at: int, slot: str, spans: list[ValueSpan]) -> int:
    """Note the scalars of the value that begins at `at`; return where it ends."""
    if text[at] not in "{[":
        _, end = json.JSONDecoder().raw_decode(text, at)
        spans.append(ValueSpan(slot, at, end))
        return end
    is_object, number = text[at] == "{", 0
    at = _past_blank(text, at + 1)
    while text[at] not in "}]":
        inner = f"{slot}[{number}]"
        if is_object:
            key, at = scanstring(text, at + 1)
            inner = f"{slot}.{key}" if slot else key
            at = _past_blank(text, _past_blank(text, at) + 1)
        at = _past_blank(text, _value(text, at, inner, spans))
        at, number = _past_blank(text, at + 1) if text[at] == "," else at, number + 1
    return at + 1


def _past_blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def mean_probabilities(
    spans: Sequence[ValueSpan], ends: Sequence[int], probabilities: Sequence[float]
) -> list[float | None]:
    """Return for each of `spans` the mean probability of the tokens that reach into it.

    `ends`: where each token ends in the text, in characters; as many as `probabilities`.
    """
    means: list[float | None] = []
    starts = [0, *ends[:-1]]
    for span in spans:
        own = [
            probability
            for start, end, probability in zip(starts, ends, probabilities, strict=True)
            if start < span.end and end > span.start
        ]
        means.append(math.fsum(own) / len(own) if own else None)
    return means


def read_answer_slots(
    text: str,
    value: Any,
    spec: TaskSpec,
    page: str,
    ends: Sequence[int] = (),
    probabilities: Sequence[float] = (),
) -> list[SlotReading]:
    """Return every scalar of `value`, the JSON of `text`, which answers the cleaned `page`."""
    spans = find_value_spans(text)
    leaves = list(_leaves(value, "", spec.io_schema, spec))
    confidences: Sequence[float | None] = [None] * len(spans)
    if probabilities:
        confidences = mean_probabilities(spans, ends, probabilities)
    by_slot = dict(zip((span.slot for span in spans), confidences, strict=True))
    source = SearchableText(page)
    return [
        SlotReading(
            slot, leaf, by_slot.get(slot), grounding.is_grounded(leaf, source) if asked else None
        )
        for slot, leaf, asked in leaves
    ]


def ungrounded_slots(value: Any, spec: TaskSpec, page: str | SearchableText) -> list[str]:
    """Return the slots of the answer `value` whose values the cleaned `page` does not hold.

    An injected page can make a model say anything; it cannot make a value stand in the page. One
    that the page shows is evidence, also where an attacker wrote it.
    """
    source = page if isinstance(page, SearchableText) else SearchableText(page)
    leaves = _leaves(value, "", spec.io_schema, spec)
    return [s for s, leaf, asked in leaves if asked and not grounding.is_grounded(leaf, source)]


def _leaves(value: Any, slot: str, kind: Any, spec: TaskSpec) -> Iterator[tuple[str, Any, bool]]:
    """Yield (slot, scalar, whether a page must hold it) of everything in `value`."""
    held = shape.resolve_shape(kind, spec.io_schema)
    if isinstance(value, dict):
        for name, inner in value.items():
            place = f"{slot}.{name}" if slot else name
            yield from _leaves(inner, place, shape.property_schema(held, name), spec)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{slot}[{number}]", shape.item_schema(held, number), spec)
    else:
        is_text = isinstance(value, str) and value.strip() != ""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        name = slot.rpartition(".")[2].partition("[")[0]
        is_label = shape.is_closed(held) or name in spec.label_enums
        yield slot, value, (is_text or is_number) and not is_label
