"""Fits that are kept until a preview is done, by the hash of the rows and of how they are fitted.

A fit that is kept is the fit that would be made: its encoder is made anew from the same counts,
so that every figure comes out to the last bit. One that the clock has cut short is not kept.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sem.core import files
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Encoder, Features, NumberEncoder, WordEncoder
from sem.preview.linear import cache, learners, number_targets
from sem.preview.linear.learners import FitBudget, Model
from sem.preview.linear.linear_models import ARRAYS


def kept_fit(features: Features, samples: Sequence[Sample], budget: FitBudget) -> Model:
    """Return `learners.fit`, or what it made of the same before it was stopped."""
    by = fitter_of(features)
    if budget.parts is None:
        return by.fit(features, samples, budget)
    inputs = _told("fit", features, samples, budget)
    name, inputs_sha256 = cache.cache_key(inputs), files.sha256_json(inputs)
    kept_model = cache.load_kept_baseline(budget.parts, name, inputs_sha256)
    if (
        kept_model is not None
        and (same := kept_joined_fit(kept_model, features, samples)) is not None
    ):
        return same
    model = by.fit(features, samples, budget)
    if not _is_late(budget):
        cache.keep_baseline(budget.parts, name, model, inputs_sha256)
    return model


def kept_tuned(features: Features, samples: Sequence[Sample], budget: FitBudget) -> FitBudget:
    """Return `learners.tuned`, or what it chose for the same before it was stopped."""
    inputs = _told("tuned", features, samples, budget) if budget.parts else []
    strength = cache.find_part(budget.parts, inputs)
    if isinstance(strength, float):
        return replace(budget, strength=strength)
    tuned_budget = fitter_of(features).tuned(features, samples, budget)
    if tuned_budget.strength is not None and not _is_late(budget):
        cache.keep_part(budget.parts, inputs, tuned_budget.strength)
    return tuned_budget


def fitter_of(features: Features) -> Any:
    """Return the module that fits what `features` are learnt for: `learners` or `lines`."""
    return number_targets if features.shape.is_of_numbers else learners


def kept_joined_fit(model: Model, features: Features, samples: Sequence[Sample]) -> Model | None:
    """Return `model` of `samples` over the counts of `features`.

    None when it is of something else.
    """
    encoder, model_encoder = features.encoder(samples), model.encoder
    classes = () if features.shape.is_of_numbers else learners.distinct_labels(samples)
    if (model.kind, model.classes) != (features.shape.kind, classes):
        return None
    return replace(model, encoder=encoder) if _are_same(encoder, model_encoder) else None


def _are_same(first: Encoder, second: Encoder) -> bool:
    """Return whether two encoders make the same of a row."""
    import numpy as np

    if isinstance(first, WordEncoder) and isinstance(second, WordEncoder):
        return first.terms == second.terms and np.array_equal(first.rarity, second.rarity)
    if isinstance(first, NumberEncoder) and isinstance(second, NumberEncoder):
        pairs = ((getattr(first, name), getattr(second, name)) for name in ARRAYS["table"])
        return all(np.array_equal(*pair) for pair in pairs)
    return False


def _told(
    what: str, features: Features, samples: Sequence[Sample], budget: FitBudget
) -> list[Any]:
    """Return all that the result depends on."""
    rows = files.sha256_json([[sample.label, sample.content()] for sample in samples])
    return [what, features.shape.kind, features.shape.target, rows, budget.steps, budget.strength]


def _is_late(budget: FitBudget) -> bool:
    return budget.deadline is not None and time.monotonic() > budget.deadline
