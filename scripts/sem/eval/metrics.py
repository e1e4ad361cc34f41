"""From answers to scores: one Score an example, then totals by field, task and stratum.

Every test example is in every denominator: an answer that is missing, cut or no JSON has all
its slots wrong. A slot nobody could score is `None` and counted apart.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sem.core import jsonio, schema
from sem.core.example import Example
from sem.core.taskspec import SlotSpec, TaskSpec
from sem.eval import slots
from sem.eval.answers import Answer
from sem.eval.slots import Similarity

WHOLE = "(answer)"  # the one slot of a task whose output is no object


@dataclass(frozen=True)
class Slot:
    """One compared field: score 0..1 or None, whether it passes, and which sides have a value."""

    score: float | None
    passed: bool | None
    said: bool
    wanted: bool


@dataclass(frozen=True)
class Score:
    """What one answer is worth."""

    id: str
    task: str
    domain: str
    stratum: str
    json_valid: bool  # the raw text is one strict JSON value
    schema_valid: bool  # and fits io_schema
    recovered: bool  # no valid JSON, but an object could be cut out of the text and was scored
    slots: dict[str, Slot]
    tokens_in: int
    tokens_out: int
    latency_ms: int
    finish: str

    @property
    def accuracy(self) -> float:
        """Share of scored slots that pass; unscored slots are left out and counted apart."""
        scored = [slot.passed for slot in self.slots.values() if slot.passed is not None]
        return sum(scored) / len(scored) if scored else 0.0

    @property
    def row_exact(self) -> bool:
        """Whether every slot passes."""
        return all(slot.passed for slot in self.slots.values() if slot.passed is not None)


def score(
    example: Example, answer: Answer | None, spec: TaskSpec, similarity: Similarity | None
) -> Score:
    """ANSWER to EXAMPLE, compared field by field; no answer is a wrong one."""
    text = answer.text if answer else ""
    value, json_valid = _parse(text)
    said, recovered = (value, False) if json_valid else _recover(text)
    levels = levels_of(spec, example)
    return Score(
        id=example.id,
        task=example.task,
        domain=example.domain or example.id,
        stratum=example.stratum,
        json_valid=json_valid,
        schema_valid=json_valid and not schema.problems(value, spec.io_schema, limit=1),
        recovered=recovered,
        slots={
            name: _slot(_field(said, name), _field(example.output_json, name), level, similarity)
            for name, level in levels.items()
            if _is_there(said, name) or _is_there(example.output_json, name)
        },
        tokens_in=answer.tokens_in if answer else 0,
        tokens_out=answer.tokens_out if answer else 0,
        latency_ms=answer.latency_ms if answer else 0,
        finish=answer.finish if answer else "missing",
    )


def levels_of(spec: TaskSpec, example: Example) -> dict[str, SlotSpec]:
    """The level of every field of EXAMPLE's task; one for the whole answer where it has none."""
    return spec.slots(example.slot_specs) or {WHOLE: SlotSpec()}


def totals(scores: Sequence[Score]) -> dict[str, Any]:
    """Rates over SCORES; `n` and `unscored_slots` are counts."""
    count = len(scores)
    latency = sorted(s.latency_ms for s in scores)
    return {
        "n": count,
        "domains": len({s.domain for s in scores}),
        "accuracy": _mean(s.accuracy for s in scores),
        "row_exact": _mean(s.row_exact for s in scores),
        "json_valid": _mean(s.json_valid for s in scores),
        "schema_valid": _mean(s.schema_valid for s in scores),
        "recovered": sum(s.recovered for s in scores),
        "cut": sum(s.finish == "length" for s in scores),
        "refused": sum(s.finish == "refused" for s in scores),
        "missing": sum(s.finish == "missing" for s in scores),
        "unscored_slots": sum(slot.passed is None for s in scores for slot in s.slots.values()),
        "tokens_in": _mean(s.tokens_in for s in scores),
        "tokens_out": _mean(s.tokens_out for s in scores),
        "batch_latency_ms_p50": _quantile(latency, 0.50),
        "batch_latency_ms_p95": _quantile(latency, 0.95),
        "fields": fields(scores),
    }


def fields(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Per `task.field`: pass rate, precision, recall, F1, how often missing or spurious."""
    found: dict[str, list[Slot]] = defaultdict(list)
    for one in scores:
        for name, slot in one.slots.items():
            found[f"{one.task}.{name}"].append(slot)
    return {name: _field_totals(found[name]) for name in sorted(found)}


def by(scores: Sequence[Score], key: str) -> dict[str, list[Score]]:
    """SCORES grouped by one of their attributes, e.g. task or stratum."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for one in scores:
        groups[getattr(one, key)].append(one)
    return dict(sorted(groups.items()))


def _field_totals(found: list[Slot]) -> dict[str, Any]:
    scored = [slot for slot in found if slot.passed is not None]
    right = sum(bool(s.passed) and s.wanted for s in scored)
    said, wanted = sum(s.said for s in scored), sum(s.wanted for s in scored)
    precision = right / said if said else None
    recall = right / wanted if wanted else None
    both = (precision or 0) + (recall or 0)
    return {
        "n": len(found),
        "unscored": len(found) - len(scored),
        "pass": _mean(bool(s.passed) for s in scored),
        "score": _mean(s.score or 0.0 for s in scored),
        "precision": precision,
        "recall": recall,
        "f1": 2 * (precision or 0) * (recall or 0) / both if both else 0.0 if wanted else None,
        "missing": sum(s.wanted and not s.said for s in scored),  # FORMATS: MISS
        "spurious": sum(s.said and not s.wanted for s in scored),  # FORMATS: HALL
    }


def _is_there(value: Any, name: str) -> bool:
    # A key that neither side writes is no decision: counting it as right would reward an answer
    # of one field with all the optional ones. A key written as null is one.
    return name == WHOLE or (isinstance(value, dict) and name in value)


def _slot(said: Any, wanted: Any, spec: SlotSpec, similarity: Similarity | None) -> Slot:
    if said is _NOTHING:
        return Slot(0.0, False, said=False, wanted=wanted is not None)
    value = slots.score(said, wanted, spec, similarity)
    passed = None if value is None else value >= spec.passes_from
    return Slot(value, passed, said=said is not None, wanted=wanted is not None)


_NOTHING = object()


def _field(value: Any, name: str) -> Any:
    """Field NAME of VALUE; an absent one is null; no usable answer at all is nothing."""
    if value is _NOTHING or name == WHOLE:
        return value
    return value.get(name) if isinstance(value, dict) else _NOTHING


def _parse(text: str) -> tuple[Any, bool]:
    try:
        return jsonio.loads(text), True
    except ValueError:
        return _NOTHING, False


def _recover(text: str) -> tuple[Any, bool]:
    # A base model wraps its JSON in a fence or a sentence: format is judged by json_valid,
    # knowledge by the slots, so that the baseline is not beaten by punctuation alone.
    match = re.search(r"\{.*\}", text[:20_000], re.S)
    if match:
        for candidate in (match[0], text[match.start() : text.find("}", match.start()) + 1]):
            value, valid = _parse(candidate)
            if valid and isinstance(value, dict):
                return value, True
    return _NOTHING, False


def _mean(values: Iterable[float]) -> float:
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else 0.0


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0
