"""Judging the judge: how often it agrees with people, and what its pass rate is really worth.

A judge that passes 10 % of wrong slots and fails 15 % of right ones reports a rate that is off by
several points. Human labels on a sample measure both errors; the corrected rate takes them out
and pays with a wider interval.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core import files, schema
from sem.core.errors import SemError
from sem.eval.judge.verdicts import SlotVerdict
from sem.eval.stats import paired_stats

LABEL: dict[str, Any] = {
    "type": "object",
    "required": ["id", "slot", "human_pass"],
    "properties": {
        "id": {"type": "string"},
        "slot": {"type": "string"},
        "human_pass": {"type": "boolean"},
    },
}
Z = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True)
class Rate:
    """Hits of n, with an exact 95 % interval (Clopper & Pearson 1934)."""

    hits: int
    n: int
    rate: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Judge against human labels on the same slots; a slot without a decision counts apart."""

    n: int
    undecided: int
    # Labels on slots that no judge was asked about.
    unmatched: int
    # Share of human passes: kappa is low where it is near 0 or 1.
    base_rate: float | None
    judge_rate: float | None
    kappa: float | None
    # Of slots people pass, what the judge passes.
    tpr: Rate
    # Of slots people fail, what the judge fails.
    tnr: Rate

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class CorrectedPassRate:
    """A pass rate without the judge's errors; None where the judge is no better than chance."""

    raw: float
    rate: float | None
    variance: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class JudgeRequirement:
    """What a judge must show before a gate rests on it."""

    # Decided slots with a human label.
    labels: int = 50
    # Of them passes, and of them fails.
    of_each: int = 10
    # "substantial" (Landis & Koch 1977).
    kappa: float = 0.6
    tpr: float = 0.8
    tnr: float = 0.8


def read_human_labels(path: Path) -> dict[tuple[str, str], bool]:
    """Human labels in the JSONL file `path`, {id, slot, human_pass}; of two the later one counts.

    Labels on slots that were `ranked`, not drawn at random, are left out: they were chosen where
    the judge is doubtful, and would make it look worse than it is.
    """
    labels = {}
    for number, row in enumerate(files.read_values(path), 1):
        wrong = schema.schema_problems(row, LABEL, limit=1)
        if wrong:
            raise SemError(
                f"{path}:{number}: not a label: {wrong[0]}", "write {id, slot, human_pass}"
            )
        if row.get("drawn") != "ranked":
            labels[row["id"], row["slot"]] = row["human_pass"]
    return labels


def measure_agreement(
    human: Mapping[tuple[str, str], bool], verdicts: Mapping[tuple[str, str], SlotVerdict]
) -> Agreement:
    """Return how `verdicts` agree with `human` labels, over slots that have both."""
    both = [(label, verdicts[key]) for key, label in human.items() if key in verdicts]
    pairs = [(label, bool(v.passed)) for label, v in both if v.state == "judged"]
    passes, count = sum(label for label, _ in pairs), len(pairs)
    judge_passes = sum(judge for _, judge in pairs)
    right_passes = sum(label and judge for label, judge in pairs)
    right_fails = sum(not label and not judge for label, judge in pairs)
    return Agreement(
        n=count,
        undecided=len(both) - count,
        unmatched=len(human) - len(both),
        base_rate=passes / count if count else None,
        judge_rate=judge_passes / count if count else None,
        kappa=cohen_kappa(
            right_passes, judge_passes - right_passes, passes - right_passes, right_fails
        ),
        tpr=estimate_rate(right_passes, passes),
        tnr=estimate_rate(right_fails, count - passes),
    )


def cohen_kappa(both: int, judge_alone: int, human_alone: int, neither: int) -> float | None:
    """Cohen's kappa (1960) of a two by two table; None where one side never varies."""
    count = both + judge_alone + human_alone + neither
    if not count:
        return None
    judge, human = (both + judge_alone) / count, (both + human_alone) / count
    chance = judge * human + (1 - judge) * (1 - human)
    return None if chance == 1 else ((both + neither) / count - chance) / (1 - chance)


def estimate_rate(hits: int, count: int) -> Rate:
    """Return `hits` of `count` with its interval; with nothing counted anything is possible."""
    if not count:
        return Rate(0, 0, None, 0.0, 1.0)
    low, high = paired_stats.clopper_pearson(hits, count)
    return Rate(hits, count, hits / count, float(low), float(high))


def corrected_pass_rate(passed: int, count: int, tpr: Rate, tnr: Rate) -> CorrectedPassRate:
    """Return the pass rate behind `passed` of `count` (Rogan & Gladen 1978), with its delta-method
    interval.

    (raw + TNR - 1) / (TPR + TNR - 1); the variance adds that of the three rates (Lang & Reiczigel
    2014, with one success and one failure added to each, as they advise).
    """
    raw = passed / count if count else 0.0
    if not count or tpr.rate is None or tnr.rate is None or tpr.rate + tnr.rate <= 1:
        return CorrectedPassRate(raw, None, None, None, None)
    youden = tpr.rate + tnr.rate - 1
    estimate = (raw + tnr.rate - 1) / youden
    p, se, sp = (
        _added(passed, count, Z**2 / 2),
        _added(tpr.hits, tpr.n, 1),
        _added(tnr.hits, tnr.n, 1),
    )
    span = se[0] + sp[0] - 1
    centre = (p[0] + sp[0] - 1) / span if span > 0 else estimate
    spread = p[0] * (1 - p[0]) / p[1]
    spread += centre**2 * se[0] * (1 - se[0]) / se[1]
    spread += (1 - centre) ** 2 * sp[0] * (1 - sp[0]) / sp[1]
    variance = spread / max(span, 1e-9) ** 2
    shift = 2 * Z**2 * (centre * se[0] * (1 - se[0]) / se[1])
    shift -= 2 * Z**2 * ((1 - centre) * sp[0] * (1 - sp[0]) / sp[1])
    half = Z * math.sqrt(variance)
    low, high = centre + shift - half, centre + shift + half
    return CorrectedPassRate(
        raw, min(1.0, max(0.0, estimate)), variance, max(0.0, low), min(1.0, high)
    )


def _added(hits: int, count: int, added: float) -> tuple[float, float]:
    """Return a rate with `added` hits and `added` misses, and the count it then rests on."""
    return (hits + added) / (count + 2 * added), count + 2 * added


def corrected_slots(
    verdicts: Mapping[tuple[str, str], SlotVerdict], judge_agreement: Agreement
) -> CorrectedPassRate:
    """Return the pass rate of all judged slots in `verdicts`, corrected by `judge_agreement`."""
    decided = [bool(v.passed) for v in verdicts.values() if v.state == "judged"]
    return corrected_pass_rate(
        sum(decided), len(decided), judge_agreement.tpr, judge_agreement.tnr
    )


def calibration_faults(
    judge_agreement: Agreement, need: JudgeRequirement | None = None
) -> list[str]:
    """Return what keeps a judge from being calibrated, as lines for a person; empty when it is."""
    need = need or JudgeRequirement()
    measured = [
        ("kappa", judge_agreement.kappa, need.kappa),
        ("TPR", judge_agreement.tpr.rate, need.tpr),
    ]
    measured.append(("TNR", judge_agreement.tnr.rate, need.tnr))
    lines = []
    if judge_agreement.n < need.labels:
        lines.append(f"{judge_agreement.n} labelled slots, {need.labels} are needed")
    for name, count in (("passes", judge_agreement.tpr.n), ("fails", judge_agreement.tnr.n)):
        if count < need.of_each:
            lines.append(f"{count} human {name}, {need.of_each} are needed")
    for name, value, least in measured:
        if value is None or value < least:
            figure = "unknown" if value is None else f"{value:.3f}"
            lines.append(f"{name} is {figure}, at least {least} is needed")
    return lines


def is_calibrated(judge_agreement: Agreement | None, policy: str = "calibrated") -> bool:
    """Return whether a gate may rest on the judge.

    `policy` `any` asks nothing, else `judge_agreement` must suffice.
    """
    return policy == "any" or (
        judge_agreement is not None and not calibration_faults(judge_agreement)
    )


def calibration_facts(
    human: Path, verdicts: Mapping[tuple[str, str], SlotVerdict], identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what report and gate say of the judge: agreement, corrected rate, what is missing."""
    judge_agreement = measure_agreement(
        read_human_labels(human) if human.exists() else {}, verdicts
    )
    return {
        "identity": dict(identity),
        "calibrated": is_calibrated(judge_agreement),
        "missing": calibration_faults(judge_agreement),
        "agreement": judge_agreement.as_json(),
        "corrected": asdict(corrected_slots(verdicts, judge_agreement)),
        "slots": {
            state: sum(v.state == state for v in verdicts.values())
            for state in ("judged", "undecided", "unjudged")
        },
    }


def labels_path(folder: Path) -> Path:
    """Return where a run's human labels are kept: beside its verdicts."""
    return folder / "human_labels.jsonl"
