"""The preview's JSON: what older readers expect, with real booleans and numbers, and what is new.

Its top level is the legacy one, so that a reader of the pipeline's output can read a preview; the
rest stands under `preview_metadata`, `estimate` and `rows`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, schema
from sem.core.errors import SemError
from sem.preview.contribution.contribution import Contribution, Sample
from sem.preview.contribution.overlap import Overlap
from sem.preview.linear import learners, number_targets
from sem.preview.linear.estimate import EstimateRows, GainEstimate
from sem.preview.linear.influence import CoverageGaps, JudgedRow
from sem.preview.result import acceptance, zk
from sem.preview.stats import decision, deltaone
from sem.preview.stats.decision import PreviewDecision
from sem.preview.stats.paired_gain import PairedGain

# Is a file a ZK document, and does it hold what it says?


def validate_document(
    path: Path,
    other_schema: Path | None,
    proves: bool,
    shows_hash: bool,
    form: str,
    shows_all: bool,
) -> None:
    """Print whether the file holds; raise SemError (exit 1) where it does not."""
    document = files.read_json(path)
    wrong = document_problems(document, other_schema, proves)
    result: dict[str, Any] = {"file": path.name, "valid": not wrong, "problems": wrong}
    if shows_hash:
        result["sha256"] = zk.hash_sorted_json(document, compact=True)
    if form == "json":
        print(jsonio.pretty_json(result), end="")
    else:
        _say(result, len(wrong) if shows_all else 10)
    if wrong:
        count = f"{len(wrong)} problem{'' if len(wrong) == 1 else 's'}"
        raise SemError(
            f"{path}: {count}: {wrong[0]}", "correct the document, or the program that wrote it"
        )


def document_problems(document: Any, other: Path | None, proves: bool) -> list[str]:
    """Return what is wrong with `document` by the schema, and by its own hash where it
    `proves`.
    """
    if other is None:
        wrong = zk.zk_problems(document)
    else:
        json_schema = files.read_json(other)
        schema.check_schema(json_schema, str(other))
        wrong = schema.schema_problems(document, json_schema)
    if wrong or not proves:
        return wrong
    if zk.is_proven(document):
        return []
    return ["attestation/public_inputs_hash: does not come out of the document's contents"]


def _say(result: dict[str, Any], most: int) -> None:
    print(f"{result['file']}: {'valid' if result['valid'] else 'not valid'}")
    for line in result["problems"][:most]:
        print(f"  {console.replace_control_characters(line)}")
    if len(result["problems"]) > most:
        print(f"  and {len(result['problems']) - most} more; --verbose shows them")
    if "sha256" in result:
        print(f"sha256 {result['sha256']}")


SCHEMA_VERSION = "1.0"
DISCLAIMER = (
    "PREVIEW - NON-BINDING ESTIMATE: computed on a sample, by small models, within minutes. "
    "Only the full pipeline decides; its result can differ from this one in size and in sign."
)
NUMBERS = (
    "numbers: a point is a hundredth of what always saying the benchmark's median misses",
    "numbers: the interval is of the benchmark's rows and the learning curve; what training adds "
    "was fitted on classes only",
    "numbers: values of rows, doubts of labels and gaps are of classes and do not apply",
)
NO_BACKTEST = "not_fitted: the backtest was of classes"
# Of those to look at; the counts are of all.
MOST_ROWS = 1_000


@dataclass(frozen=True)
class ContributionWorth:
    """What contributed rows add."""

    rows: EstimateRows
    # Those of them that fitted the time.
    trained: EstimateRows
    overlap: Overlap
    estimate: GainEstimate
    # Of all of the contribution, with everything that makes it uncertain.
    expected: PairedGain
    notes: tuple[str, ...] = ()

    @property
    def learnt(self) -> int:
        """Contributed rows that the candidate learnt from."""
        return self.estimate.ladder[-1].rows

    @property
    def learnt_rows(self) -> tuple[Sample, ...]:
        """Return those, and the base rows."""
        part = self.trained.only(len(self.trained.base), self.learnt)
        return (*part.base, *part.given)


@dataclass(frozen=True)
class PreviewResult:
    """Everything a preview knows when it is done."""

    contribution: Contribution
    worth: ContributionWorth
    judged: Sequence[JudgedRow]
    gaps: CoverageGaps | None  # None of numbers
    decision: PreviewDecision
    # What the benchmark is, in words.
    benchmark: str
    at: datetime
    seconds: float
    seed: int
    test_mode: bool


def build_legacy_output(result: PreviewResult) -> dict[str, Any]:
    """Return the pipeline's own output of the same result: what `zk.document` reads."""
    estimate, contribution, rows = result.worth.estimate, result.contribution, result.worth.trained
    used, base = result.worth.learnt, len(rows.base)
    ratio = used / max(1, used + base)
    names = number_targets.NAMES if rows.shape.is_of_numbers else learners.NAMES
    model = {"model_type": names[rows.shape.kind], "mlflow_run_id": None}
    stamp = result.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    run_id = _run_id(result)
    return {
        "schema_version": SCHEMA_VERSION,
        "delta_computation": deltaone.metric_deltas(
            estimate.before.metrics, estimate.after.metrics
        ),
        "baseline_model": {
            "model_id": f"baseline_{run_id}",
            **model,
            "metrics": estimate.before.metrics,
        },
        "new_model": {
            "model_id": f"preview_{run_id}",
            **model,
            "metrics": estimate.after.metrics,
            "training_metadata": {
                "base_samples": base,
                "contributed_samples": used,
                "contribution_ratio": ratio,
                "data_manifest": contribution.manifest,
            },
        },
        "contributor_attribution": {
            "data_hash": contribution.manifest["data_hash"],
            "contributor_weights": ratio,
            "contributed_samples": used,
            "total_samples": used + base,
            "data_manifest": contribution.manifest,
        },
        "evaluation_metadata": {
            "benchmark_dataset": {
                "size": len(rows.benchmark),
                "features": list(rows.shape.features or (rows.shape.text,)),
                "type": result.benchmark,
            },
            "evaluation_timestamp": stamp,
            "evaluation_time_seconds": round(estimate.seconds, 3),
            "pipeline_run_id": run_id,
        },
        "pipeline_metadata": {
            "run_id": run_id,
            "timestamp": stamp,
            "config": {"random_seed": result.seed, "sample_size": len(contribution.samples)},
            "dry_run": True,
        },
    }


def preview_document(result: PreviewResult) -> dict[str, Any]:
    """Return the whole document."""
    return {
        **build_legacy_output(result),
        "preview_metadata": _told(result),
        "estimate": _estimate(result),
        "production_rule": acceptance.decide_acceptance(
            result.worth.estimate.before,
            result.worth.estimate.after,
            result.worth.rows.benchmark,
            _run_id(result),
            result.at,
            _leaks(result)["refused"],
        ),
        "rows": _rows(result),
        "disclaimer": DISCLAIMER,
    }


def _told(result: PreviewResult) -> dict[str, Any]:
    """preview_metadata."""
    contribution, worth = result.contribution, result.worth
    sure, why = decision.compute_confidence(_known(result))
    if worth.rows.shape.is_of_numbers:
        sure, why = None, NO_BACKTEST
    return {
        "preview_mode": True,
        "test_mode": result.test_mode,
        "cached": False,
        "estimation_confidence": sure,
        "estimation_confidence_reason": why or None,
        "legacy_confidence": decision.legacy_confidence(worth.learnt),
        "sample_size_used": worth.learnt,
        "original_data_size": contribution.size,
        "time_elapsed": round(result.seconds, 3),
        "data_path": contribution.manifest["source_path"],
        "timestamp": result.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "random_seed": result.seed,
    }


def _known(result: PreviewResult) -> dict[str, float]:
    """Return what the confidence is computed from."""
    worth, evenness = result.worth, decision.class_balance(result.contribution.classes)
    return decision.confidence_features(
        worth.expected, worth.learnt, worth.estimate.reached, evenness
    )


def _leaks(result: PreviewResult) -> dict[str, Any]:
    rows = len(result.worth.rows.given) + len(result.worth.overlap.left_out)
    return acceptance.measure_leakage(result.worth.overlap, rows)


def _estimate(result: PreviewResult) -> dict[str, Any]:
    worth, estimate, leaks = result.worth, result.worth.estimate, _leaks(result)
    decided = decision.refuse_leaked_benchmark(leaks) or result.decision
    of_numbers = worth.rows.shape.is_of_numbers
    return {
        "decision": decided.word,
        "reason": decided.reason,
        "size": {"told": False, "reason": NO_BACKTEST}
        if of_numbers
        else decision.decide_size_claim(_known(result), decided.word),
        "primary_metric": number_targets.PRIMARY if of_numbers else acceptance.METRIC,
        "percentage_points": _points(worth.expected),
        "measured": {"rows": worth.learnt, **_points(estimate.gain)},
        "expected": {"rows": estimate.reached, **_points(worth.expected)},
        "relative_mean": _relative(estimate),
        "log_likelihood": asdict(estimate.likelihood) if estimate.likelihood else None,
        "mean_absolute_error": _missed(worth) if of_numbers else None,
        "learning_curve": [{"rows": s.rows, **_points(s.gain)} for s in estimate.ladder],
        "comparators": acceptance.compare_metrics(estimate.before, estimate.after, result.seed),
        "in_benchmark": leaks,
        "complete": estimate.complete,
        "notes": [*estimate.notes, *worth.notes, *(NUMBERS if of_numbers else ())],
    }


def _missed(worth: ContributionWorth) -> dict[str, Any]:
    """Return the mean absolute error in the target's own unit; a gain is what less is missed."""
    estimate, unit = worth.estimate, number_targets.median_baseline_error(worth.rows.benchmark)
    gain = estimate.gain
    return {
        "unit_of_a_point": unit / decision.POINTS,
        "baseline": float(estimate.before.errors.mean()),
        "new": float(estimate.after.errors.mean()),
        "gain": {
            "mean": gain.mean * unit,
            "ci95_low": gain.low * unit,
            "ci95_high": gain.high * unit,
            "n": gain.n,
        },
    }


def _points(gain: PairedGain) -> dict[str, float | int]:
    """Return `gain` in percentage points with its 95 % interval."""
    bounds = {"mean": gain.mean, "ci95_low": gain.low, "ci95_high": gain.high}
    return {**{name: value * decision.POINTS for name, value in bounds.items()}, "n": gain.n}


def _relative(estimate: GainEstimate) -> float:
    report = deltaone.metric_deltas(estimate.before.metrics, estimate.after.metrics)
    deltas = {n: deltaone.MetricDelta(**d) for n, d in report["metric_deltas"].items()}
    return deltaone.mean_relative_delta(deltas)


def _rows(result: PreviewResult) -> dict[str, Any]:
    """Return what became of the contribution's rows, and those worth a look, the worst first."""
    advice = dict.fromkeys(("keep", "drop", "inspect"), 0)
    reasons: dict[str, int] = {}
    for row in result.judged:
        advice[row.advice] += 1
        if row.reason:
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
    rows = sorted((row for row in result.judged if row.advice != "keep"), key=lambda j: j.value)
    return {
        "advice": advice,
        "reasons": dict(sorted(reasons.items())),
        "skipped": dict(sorted(result.contribution.skipped.items())),
        "notes": dict(sorted(result.contribution.notes.items())),
        "gaps_filled": asdict(result.gaps) if result.gaps else None,
        "by_class": _by_class(result.judged) if result.gaps else {},
        "to_look_at": [_shown(row, result) for row in rows[:MOST_ROWS]],
    }


def _shown(row: JudgedRow, result: PreviewResult) -> dict[str, Any]:
    return asdict(row) if result.gaps else {**asdict(row), "value": None}


def _by_class(rows: Sequence[JudgedRow]) -> dict[str, dict[str, float]]:
    """Return rows and summed value of each class: groups that help, and groups that do not."""
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        group = groups.setdefault(row.label, {"rows": 0, "value": 0.0})
        group["rows"] += 1
        group["value"] += row.value
    return dict(sorted(groups.items(), key=lambda item: -item[1]["value"]))


def _run_id(result: PreviewResult) -> str:
    """Return the same for the same data, base, benchmark and seed."""
    rows = [
        [s.label, s.content()] for s in (*result.worth.rows.base, *result.worth.rows.benchmark)
    ]
    inputs = [result.contribution.manifest["data_hash"], files.sha256_json(rows), result.seed]
    return files.sha256_json(inputs)[:16]
