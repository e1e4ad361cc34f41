"""The backtest's figures: intervals and confidence fitted on half of the cases, then tested.

Halves are made of whole cases, by a digest of the name. On the first half: the least widening of
intervals that covers 95 % of full results, then a logistic curve for "the full result is near".
Every figure of the report is of the second half, or says that it is of all.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.preview import preview_plot
from sem.core import files, jsonio
from sem.preview.stats import decision
from sem.preview.stats.paired_gain import PairedGain

COVER = 0.95
# Share of told sizes that must be near where it is fitted: 80 % are wanted elsewhere.
SAFE = 0.85
GRID = {
    "points": (0.0, 0.25, 0.5, 0.75, 1.0),
    "share": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3),
    "unseen_points": (0.0, 0.5, 1.0, 2.0, 4.0, 6.0),
    "unseen_share": (0.0, 0.1, 0.2, 0.4, 0.6),
}
BUDGETS = ("quarter", "half", "whole")
BINS = ((0.0, 0.5), (0.5, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01))


@dataclass(frozen=True)
class Told:
    """One preview beside the full result, gains in points."""

    case: str
    kind: str
    budget: str
    raw: dict[str, Any]
    full: float
    # Whether the full result's own interval holds 0.
    full_open: bool

    def expected(self, widen: dict[str, float]) -> PairedGain:
        gain = PairedGain(self.raw["mean"], self.raw["low"], self.raw["high"], self.raw["n"])
        unseen = 1 - self.raw["used"] / max(1, self.raw["size"])
        return decision.widen_gain(gain, unseen, widen)

    @property
    def is_fitted_on(self) -> bool:
        return hashlib.sha256(self.case.encode()).digest()[0] % 2 == 0

    @property
    def is_near(self) -> bool:
        return decision.is_near(self.raw["mean"] * 100, self.full)

    def known(self, widen: dict[str, float]) -> dict[str, float]:
        raw = self.raw
        return decision.confidence_features(
            self.expected(widen), raw["used"], raw["size"], raw["balance"]
        )

    def covered(self, widen: dict[str, float]) -> bool:
        found = self.expected(widen)
        return found.low * 100 <= self.full <= found.high * 100

    def word(self, widen: dict[str, float]) -> str:
        return decision.decide_gain(self.expected(widen)).word


def report(rows: list[dict[str, Any]], folder: Path, curve_path: Path) -> None:
    """Fit, test, and write the table, the plot and the curve."""
    told = [one for row in rows for one in _told(row)]
    fitted_on = [one for one in told if one.is_fitted_on]
    tested = [one for one in told if not one.is_fitted_on]
    widen = widening(fitted_on)
    curve = {
        "version": 1,
        **logistic(fitted_on, widen),
        "widen": widen,
        "near": {"share": decision.NEAR_SHARE, "points": decision.NEAR_POINTS},
        "fitted_on": len(fitted_on),
        "rows_sha256": rows_hash(rows),
        "tested": {"previews": len(tested), **summary(tested, widen)},
    }
    curve["tells_size_from"] = size_from(fitted_on, widen, curve)
    curve["tested"] |= sized(tested, widen, curve)
    curve["tested"]["brier"] = brier(tested, widen, curve)
    curve["tested"]["brier_of_the_base_rate"] = base_rate(fitted_on, tested)
    files.write_file(curve_path, jsonio.pretty_json(curve))
    lines = table(rows, told, tested, widen, curve)
    files.write_file(folder / "preview_backtest.md", "\n".join(lines) + "\n")
    marks = [(one.full, one.raw["mean"] * 100, one.word(widen)) for one in told]
    files.write_file(folder / "preview_backtest.svg", preview_plot.scatter(marks))
    print("\n".join(lines))


def rows_hash(rows: Sequence[dict[str, Any]]) -> str:
    """Return what names the rows of the backtest, their times and machines apart."""
    plain = [{name: row[name] for name in row if name not in ("cpu_s", "machine")} for row in rows]
    return files.sha256_json(sorted(plain, key=lambda row: str(row["case"])))


def _told(row: dict[str, Any]) -> list[Told]:
    full = row["full"]
    is_open = full["low"] <= 0 <= full["high"]
    return [
        Told(row["case"], row["kind"], budget, raw, full["mean"] * 100, is_open)
        for budget, raw in row["previews"].items()
    ]


def widening(told: Sequence[Told]) -> dict[str, float]:
    """Return the least widening, by the mean log width, that covers COVER of each budget of
    `told`.
    """
    found = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    parts = [[one for one in told if one.budget == name] for name in {o.budget for o in told}]
    holds = [
        by
        for by in found
        if all(sum(o.covered(by) for o in part) >= COVER * len(part) for part in parts)
    ]
    if not holds:
        return {name: max(values) for name, values in GRID.items()}
    # A width of 0 is of a preview that learnt nothing: every widening leaves it.
    return min(holds, key=lambda by: sum(math.log(max(o.expected(by).width, 1e-6)) for o in told))


def logistic(told: Sequence[Told], widen: dict[str, float]) -> dict[str, Any]:
    """Weights per unit of each feature, an intercept, and the ranges they were fitted on."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    known = [one.known(widen) for one in told]
    names = sorted(known[0])
    matrix = np.array([[one[name] for name in names] for one in known])
    mean, spread = matrix.mean(axis=0), np.maximum(matrix.std(axis=0), 1e-9)
    model = LogisticRegression(C=0.5).fit((matrix - mean) / spread, [o.is_near for o in told])
    weights = model.coef_[0] / spread
    return {
        "weights": {n: round(float(w), 6) for n, w in zip(names, weights, strict=True)},
        "intercept": round(float(model.intercept_[0] - (weights * mean).sum()), 6),
        "ranges": {
            n: [float(c.min()), float(c.max())] for n, c in zip(names, matrix.T, strict=True)
        },
    }


def brier(told: Sequence[Told], widen: dict[str, float], curve: dict[str, Any]) -> float:
    chances = [decision.logistic_probability(curve, one.known(widen)) for one in told]
    wrong = sum((c - one.is_near) ** 2 for c, one in zip(chances, told, strict=True))
    return round(wrong / len(told), 4)


def size_from(told: Sequence[Told], widen: dict[str, float], curve: dict[str, Any]) -> float:
    """Return the least chance, in hundredths, from which SAFE of the sizes told of `told` are
    near.
    """
    for hundredth in range(50, 100):
        found = sized(told, widen, {**curve, "tells_size_from": hundredth / 100})
        if found["near_when_size_told"] >= SAFE:
            return hundredth / 100
    return 1.0


def sized(
    told: Sequence[Told], widen: dict[str, float], curve: dict[str, Any]
) -> dict[str, float]:
    """Return how many of `told` say how much by `curve`, and how many of those are near."""
    said = [
        one
        for one in told
        if one.word(widen) != "cannot_tell"
        and decision.tells_size(curve, decision.logistic_probability(curve, one.known(widen)))
    ]
    return {
        "tells_size": round(len(said) / len(told), 4) if told else 0.0,
        "near_when_size_told": round(_share(said, lambda one: one.is_near), 4),
    }


def base_rate(fitted_on: Sequence[Told], tested: Sequence[Told]) -> float:
    """Return the Brier score of saying, for every case, how often the first half was near."""
    rate = sum(one.is_near for one in fitted_on) / len(fitted_on)
    return round(sum((rate - one.is_near) ** 2 for one in tested) / len(tested), 4)


def summary(told: Sequence[Told], widen: dict[str, float]) -> dict[str, float]:
    """Return shares between 0 and 1 over `told`."""
    from scipy.stats import spearmanr

    said = [one for one in told if one.word(widen) != "cannot_tell"]
    clear = [one for one in told if not one.full_open]
    large = [one for one in said if abs(one.full) >= 2.5]
    means = [one.raw["mean"] * 100 for one in told]
    fulls = [one.full for one in told]
    ranks = 0.0 if min(len(set(means)), len(set(fulls))) < 2 else spearmanr(means, fulls).statistic
    called = [one for one in told if one.word(widen) == "improves"]
    figures = {
        "abstains": 1 - len(said) / len(told),
        "near_when_said": _share(said, lambda one: one.is_near),
        "within_20_percent_of_large": _share(large, _is_within),
        "covered": _share(told, lambda one: one.covered(widen)),
        "sign_of_clear": _share(clear, lambda one: one.raw["mean"] * one.full > 0),
        "rank_correlation": float(ranks),
        "called_better_but_is_not": _share(called, lambda one: one.full <= 0),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def _is_within(one: Told) -> bool:
    return abs(one.raw["mean"] * 100 - one.full) <= 0.2 * abs(one.full)


def _share(told: Sequence[Told], holds: Callable[[Told], bool]) -> float:
    return sum(map(holds, told)) / len(told) if told else 0.0


COLUMNS = {
    "sign (full clear)": "sign_of_clear",
    "rank": "rank_correlation",
    "near, when it says": "near_when_said",
    "±20 % of ≥ 2.5 points": "within_20_percent_of_large",
    "covered": "covered",
    "cannot tell whether": "abstains",
    "tells how much": "tells_size",
    "near, when it tells how much": "near_when_size_told",
}


def table(
    rows: Sequence[dict[str, Any]],
    told: Sequence[Told],
    tested: Sequence[Told],
    widen: dict[str, float],
    curve: dict[str, Any],
) -> list[str]:
    """Return the report in Markdown."""
    cpu = {side: sum(row["cpu_s"][side] for row in rows) for side in ("previews", "full")}
    kinds = Counter(row["kind"] for row in rows)
    near = f"{decision.NEAR_SHARE:.0%} or {decision.NEAR_POINTS} points"
    made = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    lines = [
        "# Previews against the full computation",
        "",
        f"{len(rows)} contributions ({made}) to 6 sets of rows, {len(told)} previews. "
        f"{'; '.join(sorted({row['machine'] for row in rows}))}; CPU time: previews "
        f"{cpu['previews']:.0f} s, full {cpu['full']:.0f} s. "
        "`python benchmarks/preview/preview_backtest.py`: its docstring says what a preview and the full "
        "computation are.",
        "",
        f"Fitted on {len(told) - len(tested)} previews (half of the cases, by a digest of their "
        f"names): intervals are widened by {widen['points']} points and "
        f"{widen['share']:.0%} of the gain, and by {widen['unseen_points']} points and "
        f"{widen['unseen_share']:.0%} of the gain times the share of the contribution that was "
        f"not seen, all added in squares. Near: within {near} of the full result. How much is "
        f"told from a confidence of {curve['tells_size_from']:.0%}, the least that leaves "
        f"{SAFE:.0%} of the told sizes near on the same half.",
        "",
        "| previews | n | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    parts: dict[str, list[Told]] = {"**tested half**": list(tested), "all": list(told)}
    for budget in BUDGETS:
        parts[f"tested half, {budget}"] = [one for one in tested if one.budget == budget]
    lines += [_line(name, part, widen, curve) for name, part in parts.items() if part]
    lines += [
        "",
        "By kind, all cases:",
        "",
        "| kind | n | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    lines += [
        _line(kind, [o for o in told if o.kind == kind], widen, curve) for kind in sorted(kinds)
    ]
    lines += ["", *calibration(tested, widen, curve), "", *per_case(rows, told, widen)]
    return lines


def _line(name: str, told: Sequence[Told], widen: dict[str, float], curve: dict[str, Any]) -> str:
    if len(told) < 2:
        return f"| {name} | {len(told)} |" + " |" * len(COLUMNS)
    found = summary(told, widen) | sized(told, widen, curve)
    cells = [
        f"{found[k]:.2f}" if k == "rank_correlation" else f"{found[k]:.0%}"
        for k in COLUMNS.values()
    ]
    return f"| {name} | {len(told)} | " + " | ".join(cells) + " |"


def calibration(told: Sequence[Told], widen: dict[str, float], curve: dict[str, Any]) -> list[str]:
    lines = [
        "The confidence on the tested half (Brier score "
        f"{curve['tested']['brier']:.3f}; of the first half's rate alone "
        f"{curve['tested']['brier_of_the_base_rate']:.3f}):",
        "",
        "| said | previews | said on average | were near |",
        "|---|---|---|---|",
    ]
    chances = [
        (decision.logistic_probability(curve, one.known(widen)), one.is_near) for one in told
    ]
    for low, high in BINS:
        within = [pair for pair in chances if low <= pair[0] < high]
        if within:
            said, near = (sum(part) / len(within) for part in zip(*within, strict=True))
            lines.append(
                f"| {low:.0%} to {min(high, 1):.0%} | {len(within)} | {said:.0%} | {near:.0%} |"
            )
    return lines


def per_case(
    rows: Sequence[dict[str, Any]], told: Sequence[Told], widen: dict[str, float]
) -> list[str]:
    """Return one line a contribution."""
    lines = [
        "| contribution | rows | full | quarter | half | whole |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = []
        for one in sorted(
            (one for one in told if one.case == row["case"]),
            key=lambda one: BUDGETS.index(one.budget),
        ):
            found, short = one.expected(widen), SHORT[one.word(widen)]
            cells.append(
                f"{found.mean * 100:+.1f} [{found.low * 100:+.1f}, "
                f"{found.high * 100:+.1f}] {short}"
            )
        lines.append(
            f"| {row['case']} | {row['rows']:,} | {row['full']['mean'] * 100:+.1f} | "
            + " | ".join(cells)
            + " |"
        )
    return [*lines, "", "↑ improves, – does not, ? cannot be told."]


SHORT = {"improves": "↑", "does_not_improve": "–", "cannot_tell": "?"}
