"""Small models that stand in for the pipeline on a CPU: linear over words, linear over numbers.

Both kinds end in scikit-learn's logistic regression over what `encoders` makes of a row.
"""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sem.core.errors import SemError
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Encoder, Features

if TYPE_CHECKING:
    import numpy as np

NAMES = {"text": "tfidf-logistic.v1", "table": "impute-scale-logistic.v1"}
# Inverse of the L2 penalty: texts are few and sparse.
STRENGTH = {"text": 10.0, "table": 1.0}
# Words are sparse and classes many: saga takes 1/25 of the time of lbfgs there (banking77, 6,198
# rows, 77 classes: 1 s against 26 s) and ends within 0.2 points of it.
SOLVERS = {"text": "saga", "table": "lbfgs"}
TOLERANCE = {"text": 1e-2, "table": 1e-3}
STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # times STRENGTH
FOLDS, HELD_ROWS, TUNED_ROWS, FEWEST = 5, 400, 2_000, 20
# Steps of the optimiser between two looks at the clock.
PASSES = 25


@dataclass(frozen=True)
class FitBudget:
    """How hard to try: steps of the optimiser, and the time.monotonic() at which none begins."""

    steps: int = 300
    deadline: float | None = None
    # Inverse of the L2 penalty; None: the kind's own.
    strength: float | None = None
    # Where finished fits are kept; None: nowhere.
    parts: Path | None = None


@dataclass(frozen=True)
class Model:
    """A fitted linear model over an encoder; without weights where its rows had one class.

    Without classes it says a number.
    """

    kind: str
    encoder: Encoder
    classes: tuple[str, ...]
    # (classes, columns of the encoder).
    weights: "np.ndarray[Any, Any] | None"
    biases: "np.ndarray[Any, Any] | None"  # (classes,)
    converged: bool = True

    def probabilities(self, samples: Sequence[Sample]) -> "np.ndarray[Any, Any]":
        """(samples, classes), each row adding up to 1."""
        import numpy as np
        from scipy.special import softmax

        if self.weights is None:
            return np.ones((len(samples), 1))
        return softmax(self.encoder.encode(samples) @ self.weights.T + self.biases, axis=1)

    def values(self, samples: Sequence[Sample]) -> "np.ndarray[Any, Any]":
        """(samples,): the number that is said of each, where the target is one."""
        return (self.encoder.encode(samples) @ self.weights.T + self.biases)[:, 0]

    def labels(self, samples: Sequence[Sample]) -> list[str]:
        """Return the likeliest class of each sample."""
        return [self.classes[place] for place in self.probabilities(samples).argmax(axis=1)]


def fit_classifier(
    features: Features, samples: Sequence[Sample], budget: FitBudget, passes: int = PASSES
) -> Model:
    """Return a model of `samples` with an encoder of its own; raise SemError when there are none.

    `passes`: steps between two looks at the clock.
    """
    if not samples:
        raise SemError("no rows to learn from", "give base data, or a contribution with rows")
    labels = [sample.label for sample in samples]
    kind, encoder, class_names = (
        features.shape.kind,
        features.encoder(samples),
        distinct_labels(samples),
    )
    if len(class_names) == 1:
        return Model(kind, encoder, class_names, None, None)
    linear = _linear(kind, budget, passes)
    converged = _descend(linear, encoder.encode(samples), labels, budget)
    return Model(kind, encoder, class_names, *_rows(linear), converged)


def distinct_labels(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the different labels of `samples`, in order."""
    return tuple(sorted({sample.label for sample in samples}))


def tune_classifier(features: Features, samples: Sequence[Sample], budget: FitBudget) -> FitBudget:
    """Return `budget` with the strength that is right most often on rows of `samples` that it has
    not seen.

    A fifth of at most TUNED_ROWS is held out, several times where few rows are. Wrong labels and
    few rows want a stronger penalty than many right ones; the full pipeline looks for it, too.
    """
    usual = STRENGTH[features.shape.kind]
    if budget.strength is not None or len(samples) < FEWEST:
        return budget
    order = sorted(samples, key=lambda sample: sample.lot("tuned"))[:TUNED_ROWS]
    size = max(1, len(order) // FOLDS)
    folds = min(FOLDS, max(1, HELD_ROWS // size))
    right = dict.fromkeys((usual * times for times in STRENGTHS), 0)
    for start in range(0, folds * size, size):
        held = order[start : start + size]
        rest = order[:start] + order[start + size :]
        for strength in right:
            model = fit_classifier(features, rest, replace(budget, strength=strength))
            predictions = model.labels(held)
            right[strength] += sum(a == b.label for a, b in zip(predictions, held, strict=True))
    # Of equals the one nearest to the usual, which more rows have chosen.
    best = max(right, key=lambda strength: (right[strength], -abs(math.log(strength / usual))))
    return replace(budget, strength=best)


def _linear(kind: str, budget: FitBudget, passes: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        C=budget.strength or STRENGTH[kind],
        solver=SOLVERS[kind],
        tol=TOLERANCE[kind],
        max_iter=passes,
        warm_start=True,
        random_state=0,
    )


def _descend(linear: Any, matrix: Any, labels: Sequence[str], budget: FitBudget) -> bool:
    """Fit `linear` until it stands still (True), or steps or time are up."""
    spent = 0
    while True:
        with warnings.catch_warnings():
            # Ends of passes: looked at below.
            warnings.simplefilter("ignore")
            linear.fit(matrix, labels)
        steps = int(linear.n_iter_.max())
        spent += steps
        late = budget.deadline is not None and time.monotonic() > budget.deadline
        if steps < linear.max_iter or spent >= budget.steps or late:
            return steps < linear.max_iter


def _rows(linear: Any) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Return one row of weights and one bias a class; of two classes the first stands at 0."""
    import numpy as np

    weights, biases = linear.coef_, linear.intercept_
    if len(weights) > 1:
        return weights, biases
    return np.vstack([np.zeros_like(weights), weights]), np.append(0.0, biases)
