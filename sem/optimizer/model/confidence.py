"""How much a rewrite is worth showing: what can be checked, then the network's own likelihood.

calibration.json holds a logistic curve from the mean log p of a rewrite's tokens to the share of
rewrites that were useful (Platt 1999), fitted on task families the network was not trained on.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core import files, settings
from sem.optimizer import layout
from sem.optimizer.model.rewriter import Rewrite

FILE = "calibration.json"
# Above this a client shows the rewrite.
DOUBT = 0.5


@dataclass(frozen=True)
class Calibration:
    """p(useful) = 1 / (1 + exp(-(intercept + slope * mean_logprob)))."""

    intercept: float
    slope: float
    # Rewrites it was fitted on.
    rows: int
    useful: int  # of them
    # That the rewrites come from.
    families: int
    # Mean squared error of p on families left out of the fit in turn.
    brier: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def load_calibration(folder: Path) -> Calibration:
    """Return the calibration of the optimizer in `folder`."""
    path = folder / FILE
    return settings.build_settings(Calibration, files.read_json(path), str(path))


def rewrite_confidence(rewrite: Rewrite, raw_prompt: str, calibration: Calibration) -> float:
    """Return how likely `rewrite` of `raw_prompt` is useful, 0 to 1.

    What can be checked decides the half: up to 0.5 for a text that was cut, did not change, or is
    no whole, sound layout around the task that was given, from 0.5 for any other. The calibrated
    likelihood places it within that half: alone it tells little (a network that repeats itself
    is sure of it).
    """
    sure = calibrated_likelihood(rewrite.mean_logprob, calibration)
    is_useful = layout.is_useful(rewrite.text, raw_prompt, rewrite.finished)
    return DOUBT * (1 + sure) if is_useful else DOUBT * sure


def calibrated_likelihood(mean_logprob: float, calibration: Calibration) -> float:
    """p(useful) of the mean log p alone."""
    score = calibration.intercept + calibration.slope * mean_logprob
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, score))))
