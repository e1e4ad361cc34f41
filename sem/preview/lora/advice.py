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
from sem.preview.lora.gradient_likeness import Pull

# Share of base rows whose value stands in the input, from which a slot copies it.
USUAL = 0.95
# Base rows with a value, below which nothing is usual.
ENOUGH = 20
# Interquartile ranges below the quarter: Tukey's outliers.
FENCE = 1.5


@dataclass(frozen=True)
class Advised:
    """One contributed example, what to do with it and why."""

    where: str
    # Its domain; its task where it has none.
    group: str
    advice: Advice
    reason: str = ""
    # Whose value is not in the input.
    slots: tuple[str, ...] = ()
    # None: not looked at by the model.
    pull: Pull | None = None


@dataclass(frozen=True)
class Known:
    """What rows are judged by."""

    tasks: Mapping[str, TaskSpec]
    base: Sequence[Example]
    overlap: Overlap
    pulls: Mapping[str, Pull]  # by id
    # Of the benchmark's rows under the model of PULLS.
    scores: Sequence[float]
    # Ids of rows that no training takes.
    too_long: frozenset[str] = frozenset()


def advised(given: Sequence[Example], known: Known) -> list[Advised]:
    """Return what to do with each of `given`, the rows as they were before any was left out."""
    copied, least = _copied(known), _least(known.scores)
    return [
        Advised(
            one.id,
            one.domain or one.task,
            *_why(number, one, known, copied, least),
            known.pulls.get(one.id),
        )
        for number, one in enumerate(given)
    ]


def _why(
    number: int, one: Example, known: Known, copied: frozenset[tuple[str, str]], least: float
) -> tuple[Advice, str, tuple[str, ...]]:
    if number in known.overlap.benchmark:
        return "drop", "in_benchmark", ()
    if number in known.overlap.left_out:
        return "drop", "known_already", ()
    if one.id in known.too_long:
        return "drop", "too_long", ()
    if number in known.overlap.contradicts:
        return "inspect", "contradicts_base", ()
    closed = frozenset(closed_slots(known.tasks[one.task].io_schema))
    missing = tuple(
        slot for slot, there in _stands(one, closed) if not there and (one.task, slot) in copied
    )
    if missing:
        return "inspect", "value_not_in_input", missing
    pull = known.pulls.get(one.id)
    if pull is not None and pull.score < least:
        return "inspect", "answer_unlikely", ()
    return "keep", "", ()


def _least(scores: Sequence[float]) -> float:
    """Return the score below which an answer is an outlier of the benchmark's."""
    if len(scores) < 4:
        return float("-inf")
    low, _, high = statistics.quantiles(scores, n=4)
    return low - FENCE * (high - low)


def _copied(known: Known) -> frozenset[tuple[str, str]]:
    """Return the slots whose values nearly always stand in the input of the base rows."""
    counts: dict[tuple[str, str], list[int]] = {}
    for one in known.base:
        closed = frozenset(closed_slots(known.tasks[one.task].io_schema))
        for slot, there in _stands(one, closed):
            count = counts.setdefault((one.task, slot), [0, 0])
            count[0] += 1
            count[1] += there
    return frozenset(
        name for name, (rows, there) in counts.items() if rows >= ENOUGH and there >= USUAL * rows
    )


def _stands(one: Example, closed: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Yield each slot of `one` with a value long enough to tell, and whether its input holds all
    of it.
    """
    text, answer = grounding.Text(one.input_text), one.output_json
    for slot, value in (answer if isinstance(answer, dict) else {"answer": answer}).items():
        leaves = [leaf for _, leaf in grounding.scalar_leaves({slot: value})]
        if slot not in closed and any(len(str(leaf)) >= grounding.TELLING for leaf in leaves):
            yield slot, all(grounding.is_grounded(leaf, text) for leaf in leaves)


def advice_json(found: Sequence[Advised], most: int) -> dict[str, Any]:
    """Return `found` counted, by group, and at most `most` of those worth a look, the least likely
    first.
    """
    looked = [one for one in found if one.advice != "keep"]
    return {
        "advice": {word: sum(one.advice == word for one in found) for word in get_args(Advice)},
        "reasons": dict(sorted(Counter(one.reason for one in found if one.reason).items())),
        "looked_at_by_the_model": sum(one.pull is not None for one in found),
        "by_group": _groups(found),
        "to_look_at": [_shown(one) for one in sorted(looked, key=_likely)[:most]],
    }


def _likely(one: Advised) -> float:
    return one.pull.score if one.pull else 0.0


def _shown(one: Advised) -> dict[str, Any]:
    pull = asdict(one.pull) if one.pull else {"score": None, "likeness": None}
    return {
        "where": one.where,
        "group": one.group,
        "advice": one.advice,
        "reason": one.reason,
        "slots": list(one.slots),
        **pull,
    }


def _groups(found: Sequence[Advised]) -> dict[str, dict[str, Any]]:
    """Return each group's rows, what is said of them, and how they pull on average.

    The best first.
    """
    members: dict[str, list[Advised]] = {}
    for one in found:
        members.setdefault(one.group, []).append(one)
    made = {}
    for name, rows in members.items():
        pulled = [one.pull.likeness for one in rows if one.pull]
        counts = {word: sum(one.advice == word for one in rows) for word in get_args(Advice)}
        mean = statistics.fmean(pulled) if pulled else None
        made[name] = {"rows": len(rows), **counts, "looked_at": len(pulled), "likeness": mean}
    return dict(sorted(made.items(), key=lambda item: (-(item[1]["likeness"] or 0.0), item[0])))
