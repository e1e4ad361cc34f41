"""Figures about a set of examples: tokens, slots, labels, strata, domains."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sem.core import taskspec
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.dataset.layout import batched

CountTokens = Callable[[list[str]], list[int]]

BATCH = 64
QUANTILES = (0.5, 0.95, 0.99)
MAX_LABELS = 200


@dataclass
class Slot:
    """How often one field of the output is there."""

    present: int = 0
    null: int = 0
    absent: int = 0
    labels: Counter[str] = field(default_factory=Counter)


@dataclass
class Profile:
    """Figures of one task."""

    rows: int = 0
    prompt_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    answer_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    chars_before: int = 0
    chars_after: int = 0
    slots: dict[str, Slot] = field(default_factory=dict)
    strata: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)


def describe(
    examples: Iterable[Example], tasks: dict[str, TaskSpec], count_tokens: CountTokens | None
) -> dict[str, Profile]:
    """The figures of EXAMPLES by task; tokens by COUNT_TOKENS, none when it is None."""
    found: dict[str, Profile] = {}
    for batch in batched(examples, BATCH):
        for example in batch:
            profile = found.setdefault(example.task, Profile())
            _add(profile, example, tasks[example.task])
        if count_tokens is not None:
            _count(found, batch, tasks, count_tokens)
    return dict(sorted(found.items()))


def _add(profile: Profile, example: Example, spec: TaskSpec) -> None:
    profile.rows += 1
    profile.strata[example.stratum] += 1
    profile.domains[example.domain] += 1
    profile.chars_before += int(example.meta.get("chars_before") or 0)
    profile.chars_after += int(example.meta.get("chars_after") or 0)
    value, fields = example.output_json, spec.io_schema.get("properties", {})
    if not isinstance(value, dict):
        value, fields = {"answer": value}, {"answer": spec.io_schema}
    for name in {**fields, **value}:
        slot = profile.slots.setdefault(name, Slot())
        if name not in value:
            slot.absent += 1
        elif value[name] is None:
            slot.null += 1
        else:
            slot.present += 1
            _label(slot, value[name], fields.get(name), spec.label_enums.get(name))


def _label(slot: Slot, value: Any, kind: Any, enum: Sequence[str] | None) -> None:
    closed = enum or (kind.get("enum") if isinstance(kind, dict) else None)
    if closed or isinstance(value, bool):
        for label in value if isinstance(value, list) else [value]:
            if len(slot.labels) < MAX_LABELS:
                slot.labels[str(label)] += 1


def _count(
    found: dict[str, Profile],
    batch: Sequence[Example],
    tasks: dict[str, TaskSpec],
    count_tokens: CountTokens,
) -> None:
    prompts = [
        f"{example.system_prompt or spec.system_prompt}\n{spec.prompt(example.input_text)}"
        for example in batch
        for spec in [tasks[example.task]]
    ]
    answers = [taskspec.as_text(example.output_json) for example in batch]
    counts = zip(batch, count_tokens(prompts), count_tokens(answers), strict=True)
    for example, prompt, answer in counts:
        found[example.task].prompt_tokens.append(prompt)
        found[example.task].answer_tokens.append(answer)


def quantile(values: Sequence[int], share: float) -> int | None:
    """The value below or at which SHARE of VALUES lie (nearest rank); None for none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def as_json(profile: Profile) -> dict[str, Any]:
    """PROFILE as dataset_stats.json holds it."""
    return {
        "rows": profile.rows,
        "prompt_tokens": _spread(profile.prompt_tokens),
        "answer_tokens": _spread(profile.answer_tokens),
        "chars": {"raw": profile.chars_before, "cleaned": profile.chars_after},
        "slots": {name: _slot(slot, profile.rows) for name, slot in profile.slots.items()},
        "strata": dict(profile.strata.most_common()),
        "domains": {
            "count": len(set(profile.domains) - {""}),
            "rows_without": profile.domains[""],
            "largest": dict(profile.domains.most_common(10)),
        },
    }


def _spread(values: Sequence[int]) -> dict[str, int | None]:
    made = {f"p{round(share * 100)}": quantile(values, share) for share in QUANTILES}
    return {**made, "max": max(values, default=None), "sum": sum(values)}


def _slot(slot: Slot, rows: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "coverage": round(slot.present / rows, 4),
        "null": round(slot.null / rows, 4),
        "absent": round(slot.absent / rows, 4),
    }
    if slot.labels:
        made["labels"] = dict(slot.labels.most_common())
        made["balance"] = round(balance(slot.labels), 4)
    return made


def balance(labels: Counter[str]) -> float:
    """Entropy of LABELS over its maximum: 1 when all are equally frequent, 0 for one label."""
    total = sum(labels.values())
    if len(labels) < 2:
        return 0.0
    entropy = -sum(n / total * math.log(n / total) for n in labels.values())
    return entropy / math.log(len(labels))
