"""The preview of examples of a sem's own task: from the file to the document, and for a person.

Its legacy keys are those of any preview; the one metric is the probability of a token of the
reference answers (exp of the mean log-likelihood), because exact matches are too coarse for the
few steps of a preview. There is no strict document: that wants an accuracy.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import console, files, provenance
from sem.core.errors import SemError
from sem.core.project import ROOT, Project
from sem.dataset.split import snapshot
from sem.lm.local import hardware
from sem.preview.contribution import contribution, examples
from sem.preview.linear import cache
from sem.preview.lora import advice, bench, lora, packaged
from sem.preview.lora.packaged import StartPackage
from sem.preview.result import acceptance, document, sources
from sem.preview.result.preview_run import PreviewOptions
from sem.preview.stats import decision, deltaone
from sem.preview.stats.paired_gain import PairedGain
from sem.train import recipe

METRIC = "token_probability"
NO_BACKTEST = "not_fitted: the backtest of examples is of too few contributions"
TYPE = "lora"


def examples_preview_name(
    options: PreviewOptions, project: Project, package: StartPackage | None
) -> str:
    """Return what names the preview of `options` for `project`: all that its result depends on."""
    contribution.check_contribution(options.path)
    settings, frozen = (
        sources.load_preview_settings(project),
        snapshot.load_snapshot(project, None),
    )
    slots, machine = project.root / "configs" / "judge_slots.yaml", hardware.detect_hardware()
    return cache.cache_key(
        [
            "examples",
            options.path.name,
            files.sha256_file(options.path),
            options.sample_size,
            options.seed,
            options.test_mode,
            options.seconds,
            asdict(settings),
            frozen.sha256,
            {name: spec.fingerprint() for name, spec in project.tasks.items()},
            asdict(recipe.load_recipe(project)),
            files.sha256_file(slots) if slots.exists() else None,
            [_revision(project, name) for name in (project.base_model_id, settings.proxy) if name],
            package.sha256 if package else None,
            machine.device,
            machine.dtype,
            files.sha256_file(lora.FITTED) if lora.FITTED.exists() else None,
            provenance.package_versions(),
            [files.sha256_file(path) for path in _sources()],
        ]
    )


def _revision(project: Project, name: str) -> str | None:
    try:
        return bench.find_local_weights(project, name).revision
    except SemError:
        # Said when it is needed.
        return None


def _sources() -> list[Path]:
    """Return the code that trains and scores."""
    folders = [ROOT / "sem" / part for part in ("lm", "train")]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def package_of(options: PreviewOptions, project: Project) -> StartPackage | None:
    """Return the package that `options` start from, checked; None for the base model itself."""
    if options.baseline is None:
        return None
    base = bench.find_local_weights(project, project.base_model_id)
    return packaged.read_start_package(project, options.baseline, base)


def preview_examples(
    options: PreviewOptions,
    project: Project,
    package: StartPackage | None,
    at: datetime,
    watched: Callable[[str], None],
) -> dict[str, Any]:
    """Return the document of `options`' file for `project`, both trainings starting from
    `package`.
    """
    began, settings = time.monotonic(), sources.load_preview_settings(project)
    most = min(options.sample_size, 500) if options.test_mode else options.sample_size
    watched("reading")
    source = examples.read_examples(options.path, project.tasks, most, options.seed)
    request = lora.LoraRequest(
        project, source, options.seconds, settings.proxy, package, options.parts, options.test_mode
    )
    worth = lora.examples_worth(request, watched)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema_version": document.SCHEMA_VERSION,
        **_models(worth, package),
        "preview_metadata": {
            "preview_mode": True,
            "test_mode": options.test_mode,
            "cached": False,
            "estimation_confidence": None,
            "estimation_confidence_reason": NO_BACKTEST,
            "legacy_confidence": decision.legacy_confidence(worth.learnt),
            "sample_size_used": worth.learnt,
            "original_data_size": source.size,
            "time_elapsed": round(time.monotonic() - began, 3),
            "data_path": options.path.name,
            "data_sha256": files.sha256_file(options.path),
            "timestamp": stamp,
            "random_seed": options.seed,
        },
        "estimate": _estimate(worth, package, settings.min_nats, len(source.kept)),
        "rows": _rows(worth, source),
        "disclaimer": document.DISCLAIMER,
    }


def _models(worth: lora.ExampleWorth, package: StartPackage | None) -> dict[str, Any]:
    before, after = ({METRIC: math.exp(value)} for value in (worth.before, worth.after))
    model = {
        "model_type": TYPE,
        "base_model_id": worth.model,
        "steps": worth.budget.steps,
        "starts_from": package.run_id if package else "base",
    }
    return {
        "delta_computation": deltaone.metric_deltas(before, after),
        "baseline_model": {"model_id": "baseline", **model, "metrics": before},
        "new_model": {"model_id": "preview", **model, "metrics": after},
    }


def _estimate(
    worth: lora.ExampleWorth, package: StartPackage | None, least: float, own: int
) -> dict[str, Any]:
    leaks = acceptance.measure_leakage(worth.overlap, own)
    decided = decision.refuse_leaked_benchmark(leaks) or decision.PreviewDecision(
        *decide_by_nats(worth, least)
    )
    return {
        "decision": decided.word,
        "reason": decided.reason,
        "size": {"told": False, "reason": NO_BACKTEST},
        "primary_metric": "log_likelihood_per_token",
        "nats_per_token": _nats(worth.gain),
        "measured": _nats(worth.measured),
        "val_rows": {"scored": worth.gain.n, "of": worth.val},
        "steps": worth.budget.steps,
        "steps_of_the_recipe": worth.budget.of_steps,
        "trained_layers": worth.lower.trained if worth.lower else "all",
        "complete": worth.is_whole,
        "contributed_rows": {"learnt": worth.learnt, "of": worth.usable},
        "seconds_a_step": round(worth.budget.seconds_a_step, 3),
        "base_model_id": worth.model,
        "in_benchmark": leaks,
        "overlap": {name: len(rows) for name, rows in asdict(worth.overlap).items()},
        "package": _told(worth, package) if package else None,
        "notes": [*_boxed(worth), *(_notes(worth, package) if package else ())],
    }


def _nats(gain: PairedGain) -> dict[str, float | int]:
    return {"mean": gain.mean, "ci95_low": gain.low, "ci95_high": gain.high, "n": gain.n}


def _boxed(worth: lora.ExampleWorth) -> list[str]:
    """Return what the time did not hold."""
    budget, notes = worth.budget, ["both trainings take equal steps"]
    if worth.lower:
        notes.append(
            f"time_box: LoRA in every layer does not fit, so that both trainings change the last "
            f"{worth.lower.trained} of {worth.lower.of} layers only"
        )
    if lora.FITTED.exists():
        notes.append(
            "the interval holds what training itself adds, measured on the demo, and what the "
            "rest of a training changes, measured on few contributions"
        )
    if not budget.is_whole:
        notes.append(
            f"time_box: {budget.steps:,} steps of the recipe's {budget.of_steps:,}, in which "
            f"{worth.learnt:,} of {worth.usable:,} contributed rows were learnt"
        )
    if worth.gain.n < worth.val:
        notes.append(
            f"time_box: {worth.gain.n:,} of {worth.val:,} val rows, drawn by lot, are scored"
        )
    return notes


def _rows(worth: lora.ExampleWorth, source: examples.Examples) -> dict[str, Any]:
    """Return what became of the contribution's rows."""
    return {
        **advice.advice_json(worth.advised, document.MOST_ROWS),
        "skipped": dict(sorted(source.refused.items())),
        "too_long": worth.too_long,
        "known_already": len(worth.overlap.base - worth.overlap.benchmark),
    }


def _told(worth: lora.ExampleWorth, package: StartPackage) -> dict[str, Any]:
    """Return what is said of the package."""
    return {
        "run_id": package.run_id,
        "manifest_sha256": package.sha256,
        "snapshot": package.learnt.name,
        METRIC: math.exp(worth.start or 0.0),
        "val_rows_left_out": worth.unseen,
    }


def _notes(worth: lora.ExampleWorth, package: StartPackage) -> list[str]:
    start, before = (math.exp(value) for value in (worth.start or 0.0, worth.before))
    notes = [
        f"baseline_model: both trainings start from package {package.run_id} "
        f"({package.learnt.name}): its probability of a token is {start:.4f}, "
        f"after {worth.budget.steps} more steps on the train rows {before:.4f}"
    ]
    if worth.unseen:
        notes.append(
            f"baseline_model: {worth.unseen} val rows that the package has learnt are left out"
        )
    return notes


def decide_by_nats(worth: lora.ExampleWorth, least: float) -> tuple[str, str]:
    """Return the word that the interval allows, `least` nats a token being an improvement, and
    why.

    A part of a training that gains nothing says nothing of the rest; one that loses does.
    """
    gain, is_whole = worth.gain, worth.is_whole
    figures = (
        f"{gain.mean:+.3f} nats a token [{gain.low:+.3f}, {gain.high:+.3f}], n = {gain.n:,}, "
        f"{worth.budget.steps} steps"
    )
    if gain.low > 0 and gain.mean >= least:
        return "improves", f"{figures}: above 0, and {least:g} nats or more"
    if gain.high < (least if is_whole else 0.0):
        return "does_not_improve", f"{figures}: below {least if is_whole else 0:g} nats"
    if gain.high < least:
        return "cannot_tell", (
            f"{figures}: no gain in {worth.budget.steps:,} steps of the recipe's "
            f"{worth.budget.of_steps:,}"
        )
    return "cannot_tell", f"{figures}: the interval holds both no gain and {least:g} nats or more"


def print_examples_preview(preview: dict[str, Any], words: dict[str, str], verbose: bool) -> None:
    """`preview` for a person, on stdout; `verbose`: the rows to look at, too."""
    metadata, estimate = preview["preview_metadata"], preview["estimate"]
    rows = [
        (
            "examples learnt from",
            f"{metadata['sample_size_used']:,} of {metadata['original_data_size']:,}",
        ),
        ("base model", estimate["base_model_id"]),
        ("layers trained", estimate["trained_layers"]),
        ("both trainings start from", preview["baseline_model"]["starts_from"]),
        (
            "steps of each training",
            f"{estimate['steps']:,} of the recipe's {estimate['steps_of_the_recipe']:,}",
        ),
        ("val rows scored", "{scored:,} of {of:,}".format(**estimate["val_rows"])),
        ("seconds a step", estimate["seconds_a_step"]),
    ]
    console.print_table(f"{metadata['data_path']}: examples", ("what", "found"), rows)
    _show_rows(preview["rows"], verbose)
    print(f"confidence: unknown ({metadata['estimation_confidence_reason']})")
    print(f"{words[estimate['decision']]}: {estimate['reason']}")
    for note in estimate["notes"]:
        print(f"note: {note}")


def _show_rows(rows: dict[str, Any], verbose: bool) -> None:
    counts = [
        *rows["advice"].items(),
        *rows["reasons"].items(),
        ("too_long", rows["too_long"]),
        *((f"refused: {reason}", count) for reason, count in rows["skipped"].items()),
        ("looked at by the model", rows["looked_at_by_the_model"]),
    ]
    console.print_table("rows", ("what", "rows"), counts)
    if not verbose:
        return
    lines = [
        (
            row["where"],
            row["group"],
            row["reason"],
            ", ".join(row["slots"]),
            "" if row["score"] is None else f"{row['score']:+.3f}",
            "" if row["likeness"] is None else f"{row['likeness']:+.2f}",
        )
        for row in rows["to_look_at"][:20]
    ]
    columns = ("row", "group", "why", "slots", "nats a token", "likeness")
    console.print_table("rows to look at, the least likely first", columns, lines)
