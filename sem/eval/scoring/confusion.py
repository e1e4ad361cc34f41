"""Confusion matrices of fields whose values come from a list: which label is taken for which."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from sem.eval.scoring.align import ABSENT, NOTHING, Part
from sem.eval.scoring.values import canonical, is_empty

NULL, NO_ANSWER, OTHER = "(null)", "(no answer)", "(other)"


def confusion_labels(part: Part, labels: frozenset[str]) -> tuple[str, str]:
    """(reference, answer) as labels; an answer outside `labels` is `(other)`."""
    reference = NULL if part.wanted is ABSENT or is_empty(part.wanted) else _label(part.wanted)
    if part.said is NOTHING:
        return reference, NO_ANSWER
    if is_empty(part.said):
        return reference, NULL
    return reference, _label(part.said) if canonical(part.said) in labels else OTHER


def matrix(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Counts by reference and answer, and per label n, precision, recall and F1.

    The macro F1 is the mean over labels that occur in references, null left out.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for reference, answer in pairs:
        counts[reference][answer] += 1
    names = sorted(set(counts) - {NULL})
    rates = {name: _rates(name, counts) for name in names}
    f1s = [rate["f1"] for rate in rates.values()]
    return {
        "counts": {name: dict(sorted(row.items())) for name, row in sorted(counts.items())},
        "labels": rates,
        "macro_f1": sum(f1s) / len(f1s) if f1s else None,
    }


def _rates(name: str, counts: dict[str, Counter[str]]) -> dict[str, Any]:
    right, reference_count = counts[name][name], counts[name].total()
    answer_count = sum(row[name] for row in counts.values())
    precision = right / answer_count if answer_count else None
    return {
        "n": reference_count,
        "precision": precision,
        "recall": right / reference_count,
        "f1": 2 * right / (answer_count + reference_count),
    }


def _label(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
