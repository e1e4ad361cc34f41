"""What to do with each contributed example: keep it, drop it, or look at it again.

A row is looked at when its input stands in the base rows under another answer, when a value of
its answer is not in its input although that slot's values nearly always are in the base rows, or
when a model that has not seen it finds its answer far less likely than those of the benchmark.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import grounding
from sem.dataset.clean.tally import closed_slots
from sem.preview.contribution.overlap import Overlap
from sem.preview.linear.influence import Advice
from sem.preview.lora.gradient_likeness import GradientLikeness

# Share of base rows whose value stands in the input, from which a slot copies it.
USUAL = 0.95
# Base rows with a value, below which nothing is usual.
ENOUGH = 20
# Interquartile ranges below the quarter: Tukey's outliers.
FENCE = 1.5


@dataclass(frozen=True)
class ExampleAdvice:
    """One contributed example, what to do with it and why."""

    where: str
    # Its domain; its task where it has none.
    group: str
    advice: Advice
    reason: str = ""
    # Whose value is not in the input.
    slots: tuple[str, ...] = ()
    # None: not looked at by the model.
    pull: GradientLikeness | None = None


@dataclass(frozen=True)
class AdviceContext:
    """What rows are judged by."""

    tasks: Mapping[str, TaskSpec]
    base: Sequence[Example]
    overlap: Overlap
    pulls: Mapping[str, GradientLikeness]  # by id
    # Of the benchmark's rows under the model of PULLS.
    scores: Sequence[float]
    # Ids of rows that no training takes.
    too_long: frozenset[str] = frozenset()


def advise_examples(examples: Sequence[Example], context: AdviceContext) -> list[ExampleAdvice]:
    """Return what to do with each of `examples`, the rows as they were before any was left out."""
    copied, least = _copied(context), _least(context.scores)
    return [
        ExampleAdvice(
            example.id,
            example.domain or example.task,
            *_why(number, example, context, copied, least),
            context.pulls.get(example.id),
        )
        for number, example in enumerate(examples)
    ]


def _why(
    number: int,
    example: Example,
    context: AdviceContext,
    copied: frozenset[tuple[str, str]],
    least: float,
) -> tuple[Advice, str, tuple[str, ...]]:
    if number in context.overlap.benchmark:
        return "drop", "in_benchmark", ()
    if number in context.overlap.left_out:
        return "drop", "known_already", ()
    if example.id in context.too_long:
        return "drop", "too_long", ()
    if number in context.overlap.contradicts:
        return "inspect", "contradicts_base", ()
    closed = frozenset(closed_slots(context.tasks[example.task].io_schema))
    missing = tuple(
        slot
        for slot, is_in_input in _stands(example, closed)
        if not is_in_input and (example.task, slot) in copied
    )
    if missing:
        return "inspect", "value_not_in_input", missing
    pull = context.pulls.get(example.id)
    if pull is not None and pull.score < least:
        return "inspect", "answer_unlikely", ()
    return "keep", "", ()


def _least(scores: Sequence[float]) -> float:
    """Return the score below which an answer is an outlier of the benchmark's."""
    if len(scores) < 4:
        return float("-inf")
    low, _, high = statistics.quantiles(scores, n=4)
    return low - FENCE * (high - low)


def _copied(context: AdviceContext) -> frozenset[tuple[str, str]]:
    """Return the slots whose values nearly always stand in the input of the base rows."""
    counts: dict[tuple[str, str], list[int]] = {}
    for example in context.base:
        closed = frozenset(closed_slots(context.tasks[example.task].io_schema))
        for slot, is_in_input in _stands(example, closed):
            count = counts.setdefault((example.task, slot), [0, 0])
            count[0] += 1
            count[1] += is_in_input
    return frozenset(
        name
        for name, (rows, copies) in counts.items()
        if rows >= ENOUGH and copies >= USUAL * rows
    )


def _stands(example: Example, closed: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Yield each slot of `example` with a value long enough to tell, and whether its input holds
    all of it.
    """
    text, answer = grounding.SearchableText(example.input_text), example.output_json
    for slot, value in (answer if isinstance(answer, dict) else {"answer": answer}).items():
        leaves = [leaf for _, leaf in grounding.scalar_leaves({slot: value})]
        if slot not in closed and any(len(str(leaf)) >= grounding.TELLING for leaf in leaves):
            yield slot, all(grounding.is_grounded(leaf, text) for leaf in leaves)


def advice_json(rows: Sequence[ExampleAdvice], most: int) -> dict[str, Any]:
    """Return `rows` counted, by group, and at most `most` of those worth a look, the least likely
    first.
    """
    suspects = [row for row in rows if row.advice != "keep"]
    return {
        "advice": {word: sum(row.advice == word for row in rows) for word in get_args(Advice)},
        "reasons": dict(sorted(Counter(row.reason for row in rows if row.reason).items())),
        "looked_at_by_the_model": sum(row.pull is not None for row in rows),
        "by_group": _groups(rows),
        "to_look_at": [_shown(row) for row in sorted(suspects, key=_likely)[:most]],
    }


def _likely(row: ExampleAdvice) -> float:
    return row.pull.score if row.pull else 0.0


def _shown(row: ExampleAdvice) -> dict[str, Any]:
    pull = asdict(row.pull) if row.pull else {"score": None, "likeness": None}
    return {
        "where": row.where,
        "group": row.group,
        "advice": row.advice,
        "reason": row.reason,
        "slots": list(row.slots),
        **pull,
    }


def _groups(rows: Sequence[ExampleAdvice]) -> dict[str, dict[str, Any]]:
    """Return each group's rows, what is said of them, and how they pull on average.

    The best first.
    """
    members: dict[str, list[ExampleAdvice]] = {}
    for row in rows:
        members.setdefault(row.group, []).append(row)
    groups = {}
    for name, group in members.items():
        pulled = [row.pull.likeness for row in group if row.pull]
        counts = {word: sum(row.advice == word for row in group) for word in get_args(Advice)}
        mean = statistics.fmean(pulled) if pulled else None
        groups[name] = {"rows": len(group), **counts, "looked_at": len(pulled), "likeness": mean}
    return dict(sorted(groups.items(), key=lambda item: (-(item[1]["likeness"] or 0.0), item[0])))
