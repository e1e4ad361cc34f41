"""What a run must beat to be worth its training: two answers that cost nothing to learn.

*constant* says in every field what most of the train part says, whatever the page holds. *base,
constrained* is the untouched model held to io_schema: free, its answers are often cut, and a
baseline of 0 % compares with nothing. A field is green only where the run beats the better one.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sem.core import jsonio, slotspec
from sem.core.run import BASE
from sem.core.taskspec import TaskSpec
from sem.eval.answers import answers, subject
from sem.eval.answers.answers import Answer
from sem.eval.answers.subject import EvalSubject
from sem.eval.judge import judge_questions
from sem.eval.scoring import metrics, scoring
from sem.eval.scoring.scoring import Score
from sem.eval.stats import paired_stats

CONSTANT, HELD = "constant", "base, constrained"
Marked = Callable[[EvalSubject, Mapping[str, Answer]], list[Score]]


def constrained_base(candidate: EvalSubject) -> EvalSubject:
    """Return the untouched model held to io_schema, on the examples of `candidate`.

    `subject.answer(rivals.constrained_base(candidate))` lets it answer.
    """
    if not candidate.run.is_base:
        candidate = subject.resolve_subject(
            candidate.project, BASE, candidate.split, candidate.frozen.version
        )
    return replace(candidate, settings=replace(candidate.settings, decoding="constrained"))


def format_baseline_command(candidate: EvalSubject) -> str:
    """Return the command that answers `candidate`'s examples with the constrained base."""
    return f"fab eval.generate --run {BASE} --decoding constrained --split {candidate.split}"


@dataclass(frozen=True)
class Rivals:
    """The scores of each rival by its name, and the constant answer to each task."""

    scores: dict[str, list[Score]]
    constants: dict[str, Any]


def score_rivals(candidate: EvalSubject, marked: Marked) -> Rivals:
    """Return the rivals on `candidate`'s examples; the base only where it has answered."""
    constants = constant_answers(candidate)
    texts = {task: jsonio.canonical_json(value) for task, value in constants.items()}
    constant = {
        e.id: Answer(e.id, e.task, texts[e.task], "stop", 0, 0, 0, 1) for e in candidate.examples
    }
    scores = {CONSTANT: marked(candidate, constant)}
    held = constrained_base(candidate)
    if held.book.path.exists() and not held.book.is_stale():
        scores[HELD] = marked(candidate, answers.read_answers(held.book.path))
    return Rivals(scores, constants)


def constant_answers(candidate: EvalSubject) -> dict[str, Any]:
    """Return for each task the answer whose fields are the most common ones in train."""
    counted: dict[str, dict[str, Counter[str]]] = {name: {} for name in candidate.tasks}
    for example in candidate.frozen.examples("train"):
        if example.task in counted:
            _count(counted[example.task], candidate.tasks[example.task], example.output_json)
    return {name: _most_common(counts) for name, counts in counted.items()}


def _count(counts: dict[str, Counter[str]], spec: TaskSpec, reference: Any) -> None:
    for path in _paths(spec):
        value = judge_questions.value_at_path(reference, path)
        counts.setdefault(path, Counter())[jsonio.canonical_json(value)] += 1


def _paths(spec: TaskSpec) -> list[str]:
    """Return the fields that are counted one by one; a list of objects as a whole."""
    leaves = slotspec.schema_leaves(spec.io_schema) or (scoring.WHOLE,)
    return list(dict.fromkeys(leaf.partition("[]")[0] for leaf in leaves))


def _most_common(counts: Mapping[str, Counter[str]]) -> Any:
    # Of equals the first by its text, so that the order of rows decides nothing.
    values = {
        path: jsonio.parse_json(min(texts, key=lambda text: (-texts[text], text)))
        for path, texts in counts.items()
    }
    if set(values) == {scoring.WHOLE}:
        return values[scoring.WHOLE]
    answer: dict[str, Any] = {}
    for path, value in values.items():
        *outer, last = path.split(".")
        here = answer
        for step in outer:
            here = here.setdefault(step, {})
        here[last] = value
    return answer


def compare_rivals(
    candidate: EvalSubject, after: Sequence[Score], rivals: Rivals
) -> dict[str, Any]:
    """Return what scores.json says of `rivals` beside `after`, the run's scores by rule."""
    totals = {name: metrics.compute_totals(scores) for name, scores in rivals.scores.items()}
    best = str(paired_stats.best_of(rivals.scores, "accuracy"))
    gain = paired_stats.paired_differences(rivals.scores[best], after, "accuracy", draws=0)
    fields = metrics.compute_field_rates(after)
    return {
        CONSTANT: totals[CONSTANT],
        HELD: totals.get(HELD),
        "missing": None if HELD in totals else format_baseline_command(candidate),
        "constant_answers": rivals.constants,
        "best": best,
        "difference_points": gain.as_json(),
        "sentence": f"Against {best} ({totals[best]['accuracy']:.1%}): {gain.sentence()}",
        "fields": {name: _beside(name, totals, rivals.scores, after) for name in fields},
    }


def baseline_columns(scores: dict[str, Any]) -> tuple[str, ...]:
    """Return the columns of the rivals in a report of `scores`, where they were measured."""
    return (CONSTANT, HELD) if "rivals" in scores else ()


def rival_pass_rates(scores: dict[str, Any], name: str) -> tuple[Any, ...]:
    """Return the pass rates of the rivals in field `name`; None where a rival has none."""
    field = scores["rivals"]["fields"].get(name, {}) if "rivals" in scores else {}
    return tuple(field.get(rival) for rival in baseline_columns(scores))


def is_beaten(scores: dict[str, Any], name: str) -> bool:
    """Return True if the run is shown to beat the better rival in field `name`."""
    return bool(scores["rivals"]["fields"].get(name, {}).get("beats"))


def _beside(
    name: str,
    totals: Mapping[str, dict[str, Any]],
    rivals: Mapping[str, Sequence[Score]],
    after: Sequence[Score],
) -> dict[str, Any]:
    """Return field `name` of the run against the rival that is better in it."""
    passes = {rival: _pass(total, name) for rival, total in totals.items()}
    best = max(passes, key=lambda rival: passes[rival] or 0.0)
    pairs = paired_stats.slot_pairs(rivals[best], after).get(name)
    difference = paired_stats.mean_difference(pairs, draws=0) if pairs else None
    return {
        **{rival: passes[rival] for rival in passes},
        "best": best,
        "points": difference.points if difference else None,
        "low": difference.low if difference else None,
        "high": difference.high if difference else None,
        "beats": difference is not None and difference.is_shown,
    }


def _pass(totals: dict[str, Any], name: str) -> float | None:
    field = totals["fields"].get(name)
    return field["pass"] if field else None
