"""Figures about a set of examples: tokens, slots, labels, strata, domains."""

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sem.core import shape, taskspec
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import grounding, tally
from sem.dataset.store.examples_table import batched

CountTokens = Callable[[list[str]], list[int]]

BATCH = 64
QUANTILES = (0.5, 0.95, 0.99)
MAX_LABELS = 200
HOW = ("verbatim", "normalised", "absent")
EDGES = (16, 32, 64, 128, 256, 512, 1_024, 1_536, 2_048, 4_096, 8_192, 16_384)  # tokens


@dataclass
class Slot:
    """How often one field of the output is there."""

    present: int = 0
    null: int = 0
    absent: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    # How each value stands in the input.
    grounding: Counter[str] = field(default_factory=Counter)


@dataclass
class Part:
    """Lengths of one part of a snapshot."""

    rows: int = 0
    prompt_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    answer_tokens: "array[int]" = field(default_factory=lambda: array("L"))


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
    # Consent and licence, as rows say.
    rights: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    parts: dict[str, Part] = field(default_factory=dict)


def describe_parts(
    parts: Mapping[str, Iterable[Example]],
    tasks: dict[str, TaskSpec],
    count_tokens: CountTokens | None = None,
    ungrounded: Callable[[Example, str, Any], None] | None = None,
) -> dict[str, Profile]:
    """Return the figures of all `parts` by task; tokens by `count_tokens`, none when it is None.

    `ungrounded` is told every (example, slot, value) that its input does not hold, labels aside.
    """
    profiles: dict[str, Profile] = {}
    for part, examples in parts.items():
        for batch in batched(examples, BATCH):
            for example in batch:
                profile = profiles.setdefault(example.task, Profile())
                profile.parts.setdefault(part, Part()).rows += 1
                _add(profile, example, tasks[example.task])
                _ground(profile, example, tasks[example.task], ungrounded)
            if count_tokens is not None:
                _count(profiles, part, batch, tasks, count_tokens)
    return dict(sorted(profiles.items()))


def _add(profile: Profile, example: Example, spec: TaskSpec) -> None:
    profile.rows += 1
    profile.strata[example.stratum] += 1
    for key in ("consent", "license"):
        statement = f"{key}: {str(example.meta.get(key) or 'not said')[:60]}"
        if len(profile.rights) >= MAX_LABELS and statement not in profile.rights:
            statement = f"{key}: other"
        profile.rights[statement] += 1
    profile.domains[example.domain] += 1
    profile.chars_before += int(example.meta.get("chars_before") or 0)
    profile.chars_after += int(example.meta.get("chars_after") or 0)
    root = spec.io_schema
    value, fields = example.output_json, shape.properties(root, root)
    if not isinstance(value, dict):
        value, fields = {"answer": value}, {"answer": root}
    for name in {**fields, **value}:
        slot = profile.slots.setdefault(name, Slot())
        if name not in value:
            slot.absent += 1
        elif value[name] is None:
            slot.null += 1
        else:
            slot.present += 1
            is_closed = shape.is_closed(shape.resolve_shape(fields.get(name), root))
            _label(slot, value[name], is_closed or name in spec.label_enums)


def _ground(profile: Profile, example: Example, spec: TaskSpec, ungrounded: Any) -> None:
    text = grounding.Text(example.input_text)
    root = spec.io_schema
    fields = shape.properties(root, root)
    for name, value in grounding.scalar_leaves(example.output_json):
        kind = fields.get(name, root if name == "answer" else None)
        if spec.label_enums.get(name) or tally.is_listed(kind, root):
            # a label is chosen, not copied.
            continue
        stands = grounding.how(value, text)
        profile.slots[name].grounding[stands] += 1
        if stands == "absent" and ungrounded is not None:
            ungrounded(example, name, value)


def _label(slot: Slot, value: Any, is_closed: bool) -> None:
    if is_closed or isinstance(value, bool):
        for label in value if isinstance(value, list) else [value]:
            if len(slot.labels) < MAX_LABELS:
                slot.labels[str(label)] += 1


def _count(
    profiles: dict[str, Profile],
    part: str,
    batch: Sequence[Example],
    tasks: dict[str, TaskSpec],
    count_tokens: CountTokens,
) -> None:
    prompts = [
        f"{example.system_prompt or spec.system_prompt}\n{spec.prompt(example.input_text)}"
        for example in batch
        for spec in [tasks[example.task]]
    ]
    answers = [taskspec.taught_text(example.output_json) for example in batch]
    counts = zip(batch, count_tokens(prompts), count_tokens(answers), strict=True)
    for example, prompt, answer in counts:
        for figures in (profiles[example.task], profiles[example.task].parts[part]):
            figures.prompt_tokens.append(prompt)
            figures.answer_tokens.append(answer)


def quantile(values: Sequence[int], share: float) -> int | None:
    """Return the value below or at which `share` of `values` lie (nearest rank); None for none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def profile_json(profile: Profile) -> dict[str, Any]:
    """Return `profile` as dataset_stats.json holds it."""
    return {
        "rows": profile.rows,
        "prompt_tokens": _spread(profile.prompt_tokens),
        "answer_tokens": _spread(profile.answer_tokens),
        "chars": {"raw": profile.chars_before, "cleaned": profile.chars_after},
        "parts": {
            name: {
                "rows": part.rows,
                "prompt_tokens": _spread(part.prompt_tokens),
                "answer_tokens": _spread(part.answer_tokens),
                "histogram": {
                    "prompt": histogram(part.prompt_tokens),
                    "answer": histogram(part.answer_tokens),
                },
            }
            for name, part in profile.parts.items()
        },
        "slots": {name: _slot(slot, profile.rows) for name, slot in profile.slots.items()},
        "strata": dict(profile.strata.most_common()),
        "rights": dict(profile.rights.most_common()),
        "domains": {
            "count": len(set(profile.domains) - {""}),
            "rows_without": profile.domains[""],
            "largest": dict(profile.domains.most_common(10)),
        },
    }


def histogram(values: Sequence[int]) -> list[int]:
    """Return how many of `values` lie up to each of EDGES, and beyond the last."""
    counts = [0] * (len(EDGES) + 1)
    for value in values:
        counts[bisect_left(EDGES, value)] += 1
    return counts


def _spread(values: Sequence[int]) -> dict[str, int | None]:
    quantiles = {f"p{round(share * 100)}": quantile(values, share) for share in QUANTILES}
    return {**quantiles, "max": max(values, default=None), "sum": sum(values)}


def _slot(slot: Slot, rows: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "coverage": round(slot.present / rows, 4),
        "null": round(slot.null / rows, 4),
        "absent": round(slot.absent / rows, 4),
    }
    if slot.grounding:
        total = slot.grounding.total()
        figures["grounding"] = {how: round(slot.grounding[how] / total, 4) for how in HOW}
        figures["grounding"]["values"] = total
    if slot.labels:
        figures["labels"] = dict(slot.labels.most_common())
        figures["balance"] = round(label_balance(slot.labels), 4)
    return figures


def label_balance(labels: Counter[str]) -> float:
    """Entropy of `labels` over its maximum: 1 when all are equally frequent, 0 for one label."""
    total = sum(labels.values())
    if len(labels) < 2:
        return 0.0
    entropy = -sum(n / total * math.log(n / total) for n in labels.values())
    return entropy / math.log(len(labels))
