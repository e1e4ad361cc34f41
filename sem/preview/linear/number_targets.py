"""A target that is a number: a ridge regression over the same encoders as the classes have.

A row's score is 1 less its error in units of what always saying the benchmark's median misses on
average, so that the mean is scikit-learn's D² absolute error: 1 is exact, 0 no better than the
median. A point of it is a hundredth of that error, and differences are paired as classes' are.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sem.core.errors import SemError
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Features
from sem.preview.linear.learners import FEWEST, FOLDS, HELD_ROWS, TUNED_ROWS, FitBudget, Model
from sem.preview.linear.measure import BenchmarkScore

if TYPE_CHECKING:
    import numpy as np

NAMES = {"text": "tfidf-ridge.v1", "table": "impute-scale-ridge.v1"}
PRIMARY = "d2_absolute_error"
# Inverse of the L2 penalty.
STRENGTH = {"text": 1.0, "table": 0.1}
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # times STRENGTH


def fit_regression(
    features: Features, samples: Sequence[Sample], budget: FitBudget, passes: int = 0
) -> Model:
    """Return a model of `samples` with an encoder of its own.

    It is solved in one step, so it makes no passes.
    """
    from sklearn.linear_model import Ridge

    if not samples:
        raise SemError("no rows to learn from", "give base data, or a contribution with rows")
    kind, encoder = features.shape.kind, features.encoder(samples)
    linear = Ridge(alpha=1 / (budget.strength or STRENGTH[kind]))
    linear.fit(encoder.encode(samples), number_targets_of(samples))
    weights, bias = linear.coef_.reshape(1, -1), linear.intercept_
    return Model(kind, encoder, (), weights, _array([bias]))


def tune_regression(features: Features, samples: Sequence[Sample], budget: FitBudget) -> FitBudget:
    """Return `budget` with the strength that misses least on rows of `samples` that it has not
    seen.

    The usual one stays where the best is within a standard error of it: with few rows folds
    prefer any strength by chance, and a baseline that is ill chosen makes every row look good.
    """
    import numpy as np

    if budget.strength is not None or len(samples) < FEWEST:
        return budget
    usual = STRENGTH[features.shape.kind]
    order = sorted(samples, key=lambda sample: sample.lot("tuned"))[:TUNED_ROWS]
    size = max(1, len(order) // FOLDS)
    starts = range(0, min(FOLDS, max(1, HELD_ROWS // size)) * size, size)
    missed = {
        strength: np.concatenate(
            [_missed(features, order, start, size, strength, budget) for start in starts]
        )
        for strength in (usual * times for times in STRENGTHS)
    }
    best = min(missed, key=lambda strength: float(missed[strength].mean()))
    less = missed[usual] - missed[best]
    is_clear = less.mean() > less.std() / math.sqrt(len(less))
    return replace(budget, strength=best if is_clear else usual)


def _missed(
    features: Features,
    order: list[Sample],
    start: int,
    size: int,
    strength: float,
    budget: FitBudget,
) -> "np.ndarray[Any, Any]":
    """Return how far `size` rows of `order` from `start` on are missed by a model of the
    others.
    """
    import numpy as np

    held, rest = order[start : start + size], order[:start] + order[start + size :]
    model = fit_regression(features, rest, replace(budget, strength=strength))
    return np.abs(model.values(held) - number_targets_of(held))


def score_regression(model: Model, benchmark: Sequence[Sample]) -> BenchmarkScore:
    """Return `model` on `benchmark`; raise SemError where all of its rows have one value."""
    import numpy as np
    from sklearn.metrics import d2_absolute_error_score, r2_score

    truth, predictions = number_targets_of(benchmark), model.values(benchmark)
    errors = np.abs(predictions - truth)
    mean_error = median_baseline_error(benchmark)
    metrics = {
        PRIMARY: float(d2_absolute_error_score(truth, predictions)),
        "r2": float(r2_score(truth, predictions)),
    }
    return BenchmarkScore(metrics, 1 - errors / mean_error, errors=errors)


def median_baseline_error(benchmark: Sequence[Sample]) -> float:
    """Return what always saying the median misses on average, in the target's own unit."""
    import numpy as np

    truth = number_targets_of(benchmark)
    mean_error = float(np.abs(truth - np.median(truth)).mean())
    if not mean_error > 0:
        raise SemError(
            f"every one of the {len(truth):,} benchmark rows has the value {truth[0]:g}",
            "give a benchmark whose rows differ",
        )
    return mean_error


def number_targets_of(samples: Sequence[Sample]) -> "np.ndarray[Any, Any]":
    """Return the numbers to be said, (samples,)."""
    return _array([float(sample.label) for sample in samples])


def _array(values: Sequence[float]) -> "np.ndarray[Any, Any]":
    import numpy as np

    return np.array(values, float)
