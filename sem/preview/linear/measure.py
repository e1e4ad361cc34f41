"""What a model scores on the benchmark: metrics by name, and row by row for paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sem.preview.contribution.contribution import Sample
from sem.preview.linear.learners import Model

if TYPE_CHECKING:
    import numpy as np

# a probability below it counts as it: one row must not decide a mean.
FLOOR = 1e-6


@dataclass(frozen=True)
class BenchmarkScore:
    """A model on the benchmark; arrays are of shape (rows,)."""

    metrics: dict[str, float]
    # 1.0 where the likeliest class is the row's; `lines`: a share.
    right: "np.ndarray[Any, Any]"
    # Log of the probability of the row's class.
    likelihood: "np.ndarray[Any, Any] | None" = None
    # Classes as likely as the row's or likelier.
    ranks: "np.ndarray[Any, Any] | None" = None
    notes: tuple[str, ...] = ()
    # Of numbers, in the target's own unit.
    errors: "np.ndarray[Any, Any] | None" = None


def score_benchmark(model: Model, benchmark: Sequence[Sample]) -> BenchmarkScore:
    """Return `model` on `benchmark`; a class the model never saw is wrong, not left out."""
    import numpy as np

    chances = model.probabilities(benchmark)
    place = {name: number for number, name in enumerate(model.classes)}
    targets = np.array([place.get(sample.label, -1) for sample in benchmark])
    rows = np.arange(len(benchmark))
    is_known = targets >= 0
    own = np.where(is_known, chances[rows, np.where(is_known, targets, 0)], 0.0)
    right = (chances.argmax(axis=1) == targets).astype(float)
    predictions = [model.classes[number] for number in chances.argmax(axis=1)]
    metrics, notes = _metrics(model, benchmark, predictions, chances)
    ranks = np.where(is_known, (chances >= own[:, None]).sum(axis=1), len(model.classes) + 1)
    return BenchmarkScore(
        metrics, right, np.log(np.maximum(own, FLOOR)), ranks.astype(float), notes
    )


def _metrics(
    model: Model, benchmark: Sequence[Sample], predictions: Sequence[str], chances: Any
) -> tuple[dict[str, float], tuple[str, ...]]:
    """accuracy, precision, recall, f1 and, where it is defined, auroc."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    truth = [sample.label for sample in benchmark]
    classes = sorted({*truth, *model.classes})
    positive = positive_of(classes)
    averaged = {"average": "macro"} if positive is None else {"pos_label": positive}
    if positive is not None:
        averaged["average"] = "binary"
    labels = sorted(set(truth)) if positive is None else None
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predictions, labels=labels, zero_division=0, **averaged
    )
    metrics = {
        "accuracy": float(accuracy_score(truth, predictions)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }
    notes = () if positive else (f"precision, recall and f1 are means over {len(labels)} classes",)
    area = _area(model, truth, chances, positive)
    return (metrics if area is None else metrics | {"auroc": area}), notes


def positive_of(classes: Sequence[str]) -> str | None:
    """Return which of two `classes` is the positive one: 1, true or yes, else the later.

    None of more.
    """
    if len(classes) != 2:
        return None
    names = {name.casefold(): name for name in classes}
    return next((names[word] for word in ("1", "true", "yes") if word in names), max(classes))


def _area(model: Model, truth: Sequence[str], chances: Any, positive: str | None) -> float | None:
    """Area under the ROC curve of two classes; None where it is not defined."""
    from sklearn.metrics import roc_auc_score

    if positive not in model.classes or len(set(truth)) != 2:
        return None
    column = chances[:, model.classes.index(positive)]
    return float(roc_auc_score([label == positive for label in truth], column))
