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
from sem.eval import answers, docket, metrics, stats, subject
from sem.eval.answers import Answer
from sem.eval.metrics import Score
from sem.eval.subject import Subject

CONSTANT, HELD = "constant", "base, constrained"
Marked = Callable[[Subject, Mapping[str, Answer]], list[Score]]


def constrained_base(found: Subject) -> Subject:
    """Return the untouched model held to io_schema, on the examples of FOUND.

    `subject.answer(rivals.constrained_base(found))` lets it answer.
    """
    if not found.run.is_base:
        found = subject.resolve(found.project, BASE, found.split, found.frozen.version)
    return replace(found, settings=replace(found.settings, decoding="constrained"))


def command(found: Subject) -> str:
    """Return the command that lets the untouched model answer FOUND's examples constrained."""
    return f"fab eval.generate --run {BASE} --decoding constrained --split {found.split}"


@dataclass(frozen=True)
class Rivals:
    """The scores of each rival by its name, and the constant answer to each task."""

    scores: dict[str, list[Score]]
    constants: dict[str, Any]


def score_rivals(found: Subject, marked: Marked) -> Rivals:
    """Return the rivals on FOUND's examples; HELD only where it has answered."""
    constants = constant_answers(found)
    texts = {task: jsonio.dumps(value) for task, value in constants.items()}
    said = {e.id: Answer(e.id, e.task, texts[e.task], "stop", 0, 0, 0, 1) for e in found.examples}
    scores = {CONSTANT: marked(found, said)}
    held = constrained_base(found)
    if held.book.path.exists() and not held.book.is_stale():
        scores[HELD] = marked(found, answers.read(held.book.path))
    return Rivals(scores, constants)


def constant_answers(found: Subject) -> dict[str, Any]:
    """Return by task the answer whose every field is the most common one of the train part."""
    counted: dict[str, dict[str, Counter[str]]] = {name: {} for name in found.tasks}
    for example in found.frozen.examples("train"):
        if example.task in counted:
            _count(counted[example.task], found.tasks[example.task], example.output_json)
    return {name: _most_common(counts) for name, counts in counted.items()}


def _count(counts: dict[str, Counter[str]], spec: TaskSpec, reference: Any) -> None:
    for path in _paths(spec):
        value = docket.at(reference, path)
        counts.setdefault(path, Counter())[jsonio.dumps(value)] += 1


def _paths(spec: TaskSpec) -> list[str]:
    """The fields that are counted one by one; a list of objects as a whole."""
    leaves = slotspec.leaves(spec.io_schema) or (metrics.WHOLE,)
    return list(dict.fromkeys(leaf.partition("[]")[0] for leaf in leaves))


def _most_common(counts: Mapping[str, Counter[str]]) -> Any:
    # Of equals the first by its text, so that the order of rows decides nothing.
    values = {
        path: jsonio.loads(min(texts, key=lambda text: (-texts[text], text)))
        for path, texts in counts.items()
    }
    if set(values) == {metrics.WHOLE}:
        return values[metrics.WHOLE]
    made: dict[str, Any] = {}
    for path, value in values.items():
        *outer, last = path.split(".")
        here = made
        for step in outer:
            here = here.setdefault(step, {})
        here[last] = value
    return made


def compare_rivals(found: Subject, after: Sequence[Score], beside: Rivals) -> dict[str, Any]:
    """Return what scores.json says of the rivals BESIDE AFTER, the run's scores by rule."""
    totals = {name: metrics.totals(scores) for name, scores in beside.scores.items()}
    best = str(stats.best_of(beside.scores, "accuracy"))
    gain = stats.paired(beside.scores[best], after, "accuracy", draws=0)
    fields = metrics.fields(after)
    return {
        CONSTANT: totals[CONSTANT],
        HELD: totals.get(HELD),
        "missing": None if HELD in totals else command(found),
        "constant_answers": beside.constants,
        "best": best,
        "difference_points": gain.as_json(),
        "sentence": f"Against {best} ({totals[best]['accuracy']:.1%}): {gain.sentence()}",
        "fields": {name: _beside(name, totals, beside.scores, after) for name in fields},
    }


def columns(found: dict[str, Any]) -> tuple[str, ...]:
    """The columns of the rivals in a report of scores FOUND, where they were measured."""
    return (CONSTANT, HELD) if "rivals" in found else ()


def cells(found: dict[str, Any], name: str) -> tuple[Any, ...]:
    """The pass rates of the rivals in field NAME of scores FOUND; None where there is none."""
    made = found["rivals"]["fields"].get(name, {}) if "rivals" in found else {}
    return tuple(made.get(rival) for rival in columns(found))


def is_beaten(found: dict[str, Any], name: str) -> bool:
    """Return True if the run is shown to beat the better rival in field NAME."""
    return bool(found["rivals"]["fields"].get(name, {}).get("beats"))


def _beside(
    name: str,
    totals: Mapping[str, dict[str, Any]],
    rivals: Mapping[str, Sequence[Score]],
    after: Sequence[Score],
) -> dict[str, Any]:
    """Field NAME of the run against the rival that is better in it."""
    passes = {rival: _pass(found, name) for rival, found in totals.items()}
    best = max(passes, key=lambda rival: passes[rival] or 0.0)
    pairs = stats.slot_pairs(rivals[best], after).get(name)
    made = stats.difference(pairs, draws=0) if pairs else None
    return {
        **{rival: passes[rival] for rival in passes},
        "best": best,
        "points": made.points if made else None,
        "low": made.low if made else None,
        "high": made.high if made else None,
        "beats": made is not None and made.is_shown,
    }


def _pass(totals: dict[str, Any], name: str) -> float | None:
    found = totals["fields"].get(name)
    return found["pass"] if found else None
