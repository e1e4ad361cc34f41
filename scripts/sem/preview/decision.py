"""What an estimate allows to be said: it improves, it does not, or it cannot be told.

The confidence is the chance that the full pipeline's gain lies within 20 % (or half a point) of
the preview's, by a logistic curve over what is known before the full run. It is fitted by
`benchmarks/preview_backtest.py` on half of its contributions and tested on the other half.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sem.core import files
from sem.core.errors import SemError
from sem.preview.estimate import Estimate, Gain

CURVE = Path(__file__).resolve().parents[3] / "configs" / "preview_confidence.json"
POINTS = 100.0
MIN_POINTS = 1.0  # what production wants at least
NEAR_SHARE = 0.2  # of the full gain: what counts as the same
NEAR_POINTS = 0.5
Word = Literal["improves", "does_not_improve", "cannot_tell"]


@dataclass(frozen=True)
class Decision:
    """What may be said of a contribution, and why."""

    word: Word
    reason: str


def decide(gain: Gain, min_points: float = MIN_POINTS) -> Decision:
    """The word that the interval of GAIN allows: by itself above 0, or below MIN_POINTS."""
    low, mean, high = gain.low * POINTS, gain.mean * POINTS, gain.high * POINTS
    shown = f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}], n = {gain.n:,}"
    if low > 0 and mean >= min_points:
        return Decision("improves", f"{shown}: above 0, and {min_points:g} points or more")
    if high < min_points:
        return Decision("does_not_improve", f"{shown}: below {min_points:g} points")
    return Decision(
        "cannot_tell",
        f"{shown}: the interval holds both no gain and {min_points:g} points or more",
    )


def balance(classes: Counter[str]) -> float:
    """1 where all classes have as many rows, towards 0 where one has nearly all (entropy)."""
    total = sum(classes.values())
    if len(classes) < 2 or not total:
        return 0.0
    shares = [count / total for count in classes.values()]
    return -sum(s * math.log(s) for s in shares if s) / math.log(len(classes))


def features(found: Estimate, used: int, size: int, classes: Counter[str]) -> dict[str, float]:
    """What the confidence is computed from."""
    return {
        "log_width": math.log(max(found.gain.width * POINTS, 0.01)),
        "log_effect": math.log(max(abs(found.gain.mean) * POINTS, 0.01)),
        "log_benchmark": math.log(found.gain.n),
        "log_used": math.log(max(used, 1)),
        "share_used": used / max(size, 1),
        "balance": balance(classes),
        "complete": float(found.complete),
    }


def confidence(known: dict[str, float]) -> float | None:
    """The chance by the fitted curve, None where there is none; KNOWN comes from `features`."""
    if not CURVE.exists():
        return None
    curve: dict[str, Any] = files.read_json(CURVE)
    missing = set(curve["weights"]) - set(known)
    if missing:
        raise SemError(
            f"{CURVE.name} weighs {min(missing)}, which is not measured",
            "fit it again with `python benchmarks/preview_backtest.py`",
        )
    score = curve["intercept"] + sum(w * known[name] for name, w in curve["weights"].items())
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def is_near(preview: float, full: float) -> bool:
    """Whether a preview of PREVIEW points is the same as the FULL pipeline's."""
    return abs(preview - full) <= max(NEAR_SHARE * abs(full), NEAR_POINTS)


def legacy_confidence(used: int) -> float:
    """What previews before this one called confidence: it knew only the number of rows."""
    return math.sqrt(min(0.9, used / 100_000))
