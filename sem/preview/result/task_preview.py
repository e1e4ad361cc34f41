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
from sem.preview.lora.packaged import Package
from sem.preview.result import acceptance, document, sources
from sem.preview.result.preview_run import Options
from sem.preview.stats import decision, deltaone
from sem.preview.stats.paired_gain import Gain
from sem.train import recipe

METRIC = "token_probability"
NO_BACKTEST = "not_fitted: the backtest of examples is of too few contributions"
TYPE = "lora"


def examples_preview_name(options: Options, project: Project, package: Package | None) -> str:
    """Return what names the preview of `options` for `project`: all that its result depends on."""
    contribution.check_contribution(options.path)
    wanted, frozen = sources.settings(project), snapshot.load_snapshot(project, None)
    slots, machine = project.root / "configs" / "judge_slots.yaml", hardware.detect()
    return cache.cache_key(
        [
            "examples",
            options.path.name,
            files.sha256_file(options.path),
            options.sample_size,
            options.seed,
            options.test_mode,
            options.seconds,
            asdict(wanted),
            frozen.sha256,
            {name: spec.fingerprint() for name, spec in project.tasks.items()},
            asdict(recipe.load_recipe(project)),
            files.sha256_file(slots) if slots.exists() else None,
            [_revision(project, name) for name in (project.base_model_id, wanted.proxy) if name],
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
        return bench.here(project, name).revision
    except SemError:
        # Said when it is needed.
        return None


def _sources() -> list[Path]:
    """Return the code that trains and scores."""
    folders = [ROOT / "sem" / part for part in ("lm", "train")]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def package_of(options: Options, project: Project) -> Package | None:
    """Return the package that `options` start from, checked; None for the base model itself."""
    if options.baseline is None:
        return None
    base = bench.here(project, project.base_model_id)
    return packaged.read_start_package(project, options.baseline, base)


def preview_examples(
    options: Options,
    project: Project,
    package: Package | None,
    at: datetime,
    watched: Callable[[str], None],
) -> dict[str, Any]:
    """Return the document of `options`' file for `project`, both trainings starting from
    `package`.
    """
    began, wanted = time.monotonic(), sources.settings(project)
    most = min(options.sample_size, 500) if options.test_mode else options.sample_size
    watched("reading")
    given = examples.read_examples(options.path, project.tasks, most, options.seed)
    asked = lora.Asked(
        project, given, options.seconds, wanted.proxy, package, options.parts, options.test_mode
    )
    found = lora.examples_worth(asked, watched)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema_version": document.SCHEMA_VERSION,
        **_models(found, package),
        "preview_metadata": {
            "preview_mode": True,
            "test_mode": options.test_mode,
            "cached": False,
            "estimation_confidence": None,
            "estimation_confidence_reason": NO_BACKTEST,
            "legacy_confidence": decision.legacy_confidence(found.learnt),
            "sample_size_used": found.learnt,
            "original_data_size": given.size,
            "time_elapsed": round(time.monotonic() - began, 3),
            "data_path": options.path.name,
            "data_sha256": files.sha256_file(options.path),
            "timestamp": stamp,
            "random_seed": options.seed,
        },
        "estimate": _estimate(found, package, wanted.min_nats, len(given.kept)),
        "rows": _rows(found, given),
        "disclaimer": document.DISCLAIMER,
    }


def _models(found: lora.Worth, package: Package | None) -> dict[str, Any]:
    before, after = ({METRIC: math.exp(value)} for value in (found.before, found.after))
    model = {
        "model_type": TYPE,
        "base_model_id": found.model,
        "steps": found.budget.steps,
        "starts_from": package.run_id if package else "base",
    }
    return {
        "delta_computation": deltaone.metric_deltas(before, after),
        "baseline_model": {"model_id": "baseline", **model, "metrics": before},
        "new_model": {"model_id": "preview", **model, "metrics": after},
    }


def _estimate(
    found: lora.Worth, package: Package | None, least: float, own: int
) -> dict[str, Any]:
    leaks = acceptance.leaks(found.overlap, own)
    decided = decision.refused(leaks) or decision.Decision(*decide_by_nats(found, least))
    return {
        "decision": decided.word,
        "reason": decided.reason,
        "size": {"told": False, "reason": NO_BACKTEST},
        "primary_metric": "log_likelihood_per_token",
        "nats_per_token": _nats(found.gain),
        "measured": _nats(found.measured),
        "val_rows": {"scored": found.gain.n, "of": found.val},
        "steps": found.budget.steps,
        "steps_of_the_recipe": found.budget.of_steps,
        "trained_layers": found.lower.trained if found.lower else "all",
        "complete": found.is_whole,
        "contributed_rows": {"learnt": found.learnt, "of": found.usable},
        "seconds_a_step": round(found.budget.seconds_a_step, 3),
        "base_model_id": found.model,
        "in_benchmark": leaks,
        "overlap": {name: len(rows) for name, rows in asdict(found.overlap).items()},
        "package": _told(found, package) if package else None,
        "notes": [*_boxed(found), *(_notes(found, package) if package else ())],
    }


def _nats(gain: Gain) -> dict[str, float | int]:
    return {"mean": gain.mean, "ci95_low": gain.low, "ci95_high": gain.high, "n": gain.n}


def _boxed(found: lora.Worth) -> list[str]:
    """Return what the time did not hold."""
    budget, told = found.budget, ["both trainings take equal steps"]
    if found.lower:
        told.append(
            f"time_box: LoRA in every layer does not fit, so that both trainings change the last "
            f"{found.lower.trained} of {found.lower.of} layers only"
        )
    if lora.FITTED.exists():
        told.append(
            "the interval holds what training itself adds, measured on the demo, and what the "
            "rest of a training changes, measured on few contributions"
        )
    if not budget.is_whole:
        told.append(
            f"time_box: {budget.steps:,} steps of the recipe's {budget.of_steps:,}, in which "
            f"{found.learnt:,} of {found.usable:,} contributed rows were learnt"
        )
    if found.gain.n < found.val:
        told.append(
            f"time_box: {found.gain.n:,} of {found.val:,} val rows, drawn by lot, are scored"
        )
    return told


def _rows(found: lora.Worth, given: examples.Examples) -> dict[str, Any]:
    """Return what became of the contribution's rows."""
    return {
        **advice.advice_json(found.advised, document.MOST_ROWS),
        "skipped": dict(sorted(given.refused.items())),
        "too_long": found.too_long,
        "known_already": len(found.overlap.base - found.overlap.benchmark),
    }


def _told(found: lora.Worth, package: Package) -> dict[str, Any]:
    """Return what is said of the package."""
    return {
        "run_id": package.run_id,
        "manifest_sha256": package.sha256,
        "snapshot": package.learnt.name,
        METRIC: math.exp(found.start or 0.0),
        "val_rows_left_out": found.unseen,
    }


def _notes(found: lora.Worth, package: Package) -> list[str]:
    start, before = (math.exp(value) for value in (found.start or 0.0, found.before))
    told = [
        f"baseline_model: both trainings start from package {package.run_id} "
        f"({package.learnt.name}): its probability of a token is {start:.4f}, "
        f"after {found.budget.steps} more steps on the train rows {before:.4f}"
    ]
    if found.unseen:
        told.append(
            f"baseline_model: {found.unseen} val rows that the package has learnt are left out"
        )
    return told


def decide_by_nats(found: lora.Worth, least: float) -> tuple[str, str]:
    """Return the word that the interval allows, `least` nats a token being an improvement, and
    why.

    A part of a training that gains nothing says nothing of the rest; one that loses does.
    """
    gain, is_whole = found.gain, found.is_whole
    shown = (
        f"{gain.mean:+.3f} nats a token [{gain.low:+.3f}, {gain.high:+.3f}], n = {gain.n:,}, "
        f"{found.budget.steps} steps"
    )
    if gain.low > 0 and gain.mean >= least:
        return "improves", f"{shown}: above 0, and {least:g} nats or more"
    if gain.high < (least if is_whole else 0.0):
        return "does_not_improve", f"{shown}: below {least if is_whole else 0:g} nats"
    if gain.high < least:
        return "cannot_tell", (
            f"{shown}: no gain in {found.budget.steps:,} steps of the recipe's "
            f"{found.budget.of_steps:,}"
        )
    return "cannot_tell", f"{shown}: the interval holds both no gain and {least:g} nats or more"


def print_examples_preview(made: dict[str, Any], words: dict[str, str], verbose: bool) -> None:
    """`made` for a person, on stdout; `verbose`: the rows to look at, too."""
    told, estimate = made["preview_metadata"], made["estimate"]
    rows = [
        (
            "examples learnt from",
            f"{told['sample_size_used']:,} of {told['original_data_size']:,}",
        ),
        ("base model", estimate["base_model_id"]),
        ("layers trained", estimate["trained_layers"]),
        ("both trainings start from", made["baseline_model"]["starts_from"]),
        (
            "steps of each training",
            f"{estimate['steps']:,} of the recipe's {estimate['steps_of_the_recipe']:,}",
        ),
        ("val rows scored", "{scored:,} of {of:,}".format(**estimate["val_rows"])),
        ("seconds a step", estimate["seconds_a_step"]),
    ]
    console.print_table(f"{told['data_path']}: examples", ("what", "found"), rows)
    _show_rows(made["rows"], verbose)
    print(f"confidence: unknown ({told['estimation_confidence_reason']})")
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
    looked = [
        (
            one["where"],
            one["group"],
            one["reason"],
            ", ".join(one["slots"]),
            "" if one["score"] is None else f"{one['score']:+.3f}",
            "" if one["likeness"] is None else f"{one['likeness']:+.2f}",
        )
        for one in rows["to_look_at"][:20]
    ]
    columns = ("row", "group", "why", "slots", "nats a token", "likeness")
    console.print_table("rows to look at, the least likely first", columns, looked)
