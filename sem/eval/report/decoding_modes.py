"""Free, repaired and constrained decoding of one run, side by side on the same examples."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sem.core import jsonio
from sem.eval.answers import answers
from sem.eval.answers.answers import Answer
from sem.eval.answers.subject import Subject
from sem.eval.scoring import metrics
from sem.eval.scoring.metrics import Score

Marked = Callable[[Mapping[str, Answer]], list[Score]]

SHOWN = (
    "n",
    "accuracy",
    "json_valid",
    "schema_valid",
    "tokens_out",
    "cut",
    "batch_latency_ms_p50",
    "batch_latency_ms_p95",
)


def variants(subject: Subject, marked: Marked) -> dict[str, dict[str, Any]]:
    """Totals of `subject`'s run by way of decoding; constrained only where it has answered so.

    `marked` scores answers on every example. Repaired are the free answers after json-repair,
    with the latency of free decoding.
    """
    free = replace(subject, settings=replace(subject.settings, decoding="free"))
    held = replace(subject, settings=replace(subject.settings, decoding="constrained"))
    answer_sets = {}
    if free.book.path.exists() and not free.book.is_stale():
        answers_by_id = answers.read_answers(free.book.path)
        answer_sets["free"] = answers_by_id
        answer_sets["repaired"] = {
            name: repaired(answer) for name, answer in answers_by_id.items()
        }
    if held.book.path.exists() and not held.book.is_stale():
        answer_sets["constrained"] = answers.read_answers(held.book.path)
    return {name: _totals(marked(answers_by_id)) for name, answers_by_id in answer_sets.items()}


def repaired(answer: Answer) -> Answer:
    """Return `answer` with its text mended into a JSON object, where json-repair finds one."""
    from json_repair import repair_json

    try:
        jsonio.parse_json(answer.text)
        return answer
    except ValueError:
        text = repair_json(answer.text[:100_000], ensure_ascii=False)
    return replace(answer, text=text) if isinstance(text, str) and text[:1] == "{" else answer


def _totals(scores: list[Score]) -> dict[str, Any]:
    totals = metrics.totals(scores)
    return {name: totals[name] for name in SHOWN}
