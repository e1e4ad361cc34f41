"""What an estimate allows to be said: it improves, it does not, or it cannot be told.

The confidence is the chance that the full pipeline's gain lies within 20 % (or half a point) of
the preview's, by a logistic curve over what is known before the full run. The curve, and how much
wider than the benchmark's own error an interval must be, are fitted by
`benchmarks/preview/preview_backtest.py` on half of its contributions and tested on the other half.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sem.core import files
from sem.core.errors import SemError
from sem.core.projects import SHIPPED
from sem.preview.stats.paired_gain import PairedGain

CURVE = SHIPPED / "preview_confidence.json"
POINTS = 100.0
# What production wants at least.
MIN_POINTS = 1.0
# Of the full gain: what counts as the same.
NEAR_SHARE = 0.2
NEAR_POINTS = 0.5
Word = Literal["improves", "does_not_improve", "cannot_tell", "refused"]


@dataclass(frozen=True)
class PreviewDecision:
    """What may be said of a contribution, and why."""

    word: Word
    reason: str


def decide_gain(gain: PairedGain, min_points: float = MIN_POINTS) -> PreviewDecision:
    """Return the word that the interval of `gain` allows.

    By itself above 0, or below `min_points`.
    """
    low, mean, high = gain.low * POINTS, gain.mean * POINTS, gain.high * POINTS
    figures = f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}], n = {gain.n:,}"
    if low > 0 and mean >= min_points:
        return PreviewDecision(
            "improves", f"{figures}: above 0, and {min_points:g} points or more"
        )
    if high < min_points:
        return PreviewDecision("does_not_improve", f"{figures}: below {min_points:g} points")
    return PreviewDecision(
        "cannot_tell",
        f"{figures}: the interval holds both no gain and {min_points:g} points or more",
    )


def refuse_leaked_benchmark(leaks: Mapping[str, Any]) -> PreviewDecision | None:
    """Return the refusal of a contribution that holds the benchmark, None where it may count.

    `leaks` is what `acceptance.leaks` returns. Whatever was measured without those rows, a
    contribution that copies what it is graded on is never called an improvement.
    """
    if not leaks["refused"]:
        return None
    count = leaks["exact"] + leaks["near"]
    return PreviewDecision(
        "refused",
        f"{leaks['refused']}: {count:,} rows ({leaks['share']:.1%}) are in the benchmark; "
        "the figures are of the others",
    )


def class_balance(classes: Counter[str]) -> float:
    """1 where all classes have as many rows, towards 0 where one has nearly all (entropy)."""
    total = sum(classes.values())
    if len(classes) < 2 or not total:
        return 0.0
    shares = [count / total for count in classes.values()]
    return -sum(s * math.log(s) for s in shares if s) / math.log(len(classes))


def confidence_features(
    expected: PairedGain, used: int, size: int, evenness: float
) -> dict[str, float]:
    """Return what the confidence is computed from, all of it known before the full pipeline runs.

    `evenness`: the `balance` of the contribution's classes.
    """
    effect = abs(expected.mean) * POINTS
    return {
        "log_width": math.log(max(expected.width * POINTS, 0.01)),
        "log_effect": math.log(max(effect, 0.1)),
        "log_benchmark": math.log(expected.n),
        "share_used": used / size if size else 1.0,
        "balance": evenness,
    }


def widen_gain(
    gain: PairedGain, unseen: float, by: Mapping[str, float] | None = None
) -> PairedGain:
    """Return `gain` with what training itself adds to its error.

    That is `by`, or what the backtest found.

    Other rows and other settings move the result where the benchmark's rows do not: by some
    points and a share of the gain, and by more of both the larger the share of the contribution
    that is `unseen`. Where nothing was learnt there is nothing to widen.
    """
    by = by or (confidence_curve() or {}).get("widen")
    if not by or not (gain.mean or gain.width):
        return gain
    more = math.hypot(
        by["points"] / POINTS,
        by["share"] * gain.mean,
        unseen * by["unseen_points"] / POINTS,
        unseen * by["unseen_share"] * gain.mean,
    )
    sides = (gain.mean - gain.low, gain.high - gain.mean)
    low, high = (math.hypot(side, more) for side in sides)
    return PairedGain(gain.mean, gain.mean - low, gain.mean + high, gain.n).bounded()


def compute_confidence(values: Mapping[str, float]) -> tuple[float | None, str]:
    """Return the chance by the fitted curve, or None, and why; `values` comes from `features`."""
    curve = confidence_curve()
    if curve is None:
        return None, f"not_fitted: {CURVE.name} is missing"
    missing = set(curve["weights"]) - set(values)
    if missing:
        raise SemError(
            f"{CURVE.name} weighs {min(missing)}, which is not measured",
            "fit it again with `python benchmarks/preview/preview_backtest.py`",
        )
    outside = [n for n, (low, high) in curve["ranges"].items() if not low <= values[n] <= high]
    return logistic_probability(
        curve, values
    ), f"outside_the_backtest: {', '.join(outside)}" if outside else ""


def logistic_probability(curve: Mapping[str, Any], values: Mapping[str, float]) -> float:
    """Return the logistic curve at `values`, each value within the range it was fitted on."""
    score = curve["intercept"]
    for name, weight in curve["weights"].items():
        low, high = curve["ranges"][name]
        score += weight * min(max(values[name], low), high)
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def tells_size(curve: Mapping[str, Any], chance: float) -> bool:
    """Return whether a `chance` to be near is enough to say how much, and not only whether."""
    return bool(chance >= curve["tells_size_from"])


def decide_size_claim(values: Mapping[str, float], word: Word) -> dict[str, Any]:
    """Return whether the points are given as the size of the gain, and why not.

    `word` says whether there is a gain.
    """
    if word == "refused":
        return {"told": False, "reason": "the contribution is refused"}
    curve, (sure, why) = confidence_curve(), compute_confidence(values)
    if curve is None or sure is None:
        return {"told": False, "reason": why}
    if word == "cannot_tell":
        return {"told": False, "reason": "whether it improves cannot be told"}
    if tells_size(curve, sure):
        return {"told": True, "reason": None}
    return {
        "told": False,
        "reason": f"a confidence of {sure:.0%} is below {curve['tells_size_from']:.0%}",
    }


def confidence_curve() -> dict[str, Any] | None:
    """Return the fitted curve, None where there is none."""
    return files.read_json(CURVE) if CURVE.exists() else None


def is_near(preview: float, full: float) -> bool:
    """Return whether a preview of `preview` points is the same as the `full` pipeline's."""
    return abs(preview - full) <= max(NEAR_SHARE * abs(full), NEAR_POINTS)


def legacy_confidence(used: int) -> float:
    """Return what previews before this one called confidence: it knew only the number of rows."""
    return math.sqrt(min(0.9, used / 100_000))
