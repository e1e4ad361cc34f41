"""A check after the model, whatever the model: only what the schema allows and the page says.

An injected page can make a model say anything; it cannot make this check pass a value that does
not stand in the cleaned page. A value that the page shows is evidence, also where an attacker
wrote it: that limit is in the documentation, not in a rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sem.core import schema, shape
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import grounding
from sem.dataset.clean.grounding import SearchableText

# Characters of one text in an answer.
LONGEST = 2_000


@dataclass(frozen=True)
class AnswerProblem:
    """Why an answer is refused: `schema`, `ungrounded` or `length`, and where."""

    kind: str
    slot: str
    detail: str


def ungrounded_problems(
    answer: Any, spec: TaskSpec, page: str | SearchableText
) -> list[AnswerProblem]:
    """Return what keeps `answer` to the cleaned `page` from being used; empty when it may be."""
    wrong = schema.schema_problems(answer, spec.io_schema, limit=5)
    if wrong:
        return [AnswerProblem("schema", line.partition(":")[0], line) for line in wrong]
    text = page if isinstance(page, SearchableText) else SearchableText(page)
    return list(_values(answer, "", spec.io_schema, spec, text))


def _values(
    value: Any, path: str, kind: Any, spec: TaskSpec, text: SearchableText
) -> Iterator[AnswerProblem]:
    held = shape.resolve_shape(kind, spec.io_schema)
    if isinstance(value, dict):
        for name, inner in value.items():
            place = f"{path}.{name}" if path else name
            yield from _values(inner, place, shape.property_schema(held, name), spec, text)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            kind = shape.item_schema(held, number)
            yield from _values(inner, f"{path}[]", kind, spec, text)
    elif value is not None and not isinstance(value, bool) and not _is_label(path, held, spec):
        if isinstance(value, str) and len(value) > LONGEST:
            yield AnswerProblem("length", path, f"{len(value):,} characters")
        elif value != "" and not grounding.is_grounded(value, text):
            yield AnswerProblem("ungrounded", path, repr(value)[:120])


def _is_label(path: str, held: shape.Schema | None, spec: TaskSpec) -> bool:
    """Return whether the schema or the label lists name every value that `path` may take."""
    last = path.rpartition(".")[2].removesuffix("[]")
    return shape.is_closed(held) or last in spec.label_enums
