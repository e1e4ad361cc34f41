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
from typing import Any

from sem.core import console, files
from sem.core.project import Project
from sem.preview import acceptance, decision, deltaone, document, examples, lora, sources
from sem.preview.run import Options

METRIC = "token_probability"
TYPE = "lora"


def preview(
    options: Options, project: Project, at: datetime, watched: Callable[[str], None]
) -> dict[str, Any]:
    """The document of OPTIONS' file for PROJECT."""
    began, wanted = time.monotonic(), sources.settings(project)
    most = min(options.sample_size, 500) if options.test_mode else options.sample_size
    watched("reading")
    given = examples.read(options.path, project.tasks, most, options.seed)
    found = lora.worth(project, given, wanted.proxy, options.seconds, watched)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema_version": document.SCHEMA_VERSION,
        **_models(found),
        "preview_metadata": {
            "preview_mode": True,
            "test_mode": options.test_mode,
            "cached": False,
            "estimation_confidence": None,
            "estimation_confidence_reason": "not_fitted: no backtest of examples was run",
            "legacy_confidence": decision.legacy_confidence(found.learnt),
            "sample_size_used": found.learnt,
            "original_data_size": given.size,
            "time_elapsed": round(time.monotonic() - began, 3),
            "data_path": options.path.name,
            "data_sha256": files.sha256(options.path),
            "timestamp": stamp,
            "random_seed": options.seed,
        },
        "estimate": _estimate(found, wanted.min_nats, len(given.kept)),
        "rows": {"skipped": dict(sorted(given.refused.items())), "too_long": found.too_long,
                 "known_already": len(found.overlap.base - found.overlap.benchmark)},
        "disclaimer": document.DISCLAIMER,
    }  # fmt: skip


def _models(found: lora.Worth) -> dict[str, Any]:
    before, after = ({METRIC: math.exp(value)} for value in (found.before, found.after))
    model = {"model_type": TYPE, "base_model_id": found.model, "steps": found.steps}
    return {
        "delta_computation": deltaone.metric_deltas(before, after),
        "baseline_model": {"model_id": "baseline", **model, "metrics": before},
        "new_model": {"model_id": "preview", **model, "metrics": after},
    }


def _estimate(found: lora.Worth, least: float, own: int) -> dict[str, Any]:
    gain = found.gain
    word, why = decide(found, least)
    return {
        "decision": word,
        "reason": why,
        "primary_metric": "log_likelihood_per_token",
        "nats_per_token": {"mean": gain.mean, "ci95_low": gain.low, "ci95_high": gain.high,
                           "n": gain.n},
        "steps": found.steps,
        "seconds_a_step": round(found.seconds_a_step, 3),
        "base_model_id": found.model,
        "in_benchmark": acceptance.leaks(found.overlap, own),
        "overlap": {name: len(rows) for name, rows in asdict(found.overlap).items()},
        "notes": ["both trainings take equal steps; the full pipeline takes as many as rows ask "
                  "for"],
    }  # fmt: skip


def decide(found: lora.Worth, least: float) -> tuple[str, str]:
    """The word that the interval allows, LEAST nats a token being an improvement, and why."""
    gain = found.gain
    shown = (f"{gain.mean:+.3f} nats a token [{gain.low:+.3f}, {gain.high:+.3f}], n = {gain.n:,}, "
             f"{found.steps} steps")  # fmt: skip
    if gain.low > 0 and gain.mean >= least:
        return "improves", f"{shown}: above 0, and {least:g} nats or more"
    if gain.high < least:
        return "does_not_improve", f"{shown}: below {least:g} nats"
    return "cannot_tell", f"{shown}: the interval holds both no gain and {least:g} nats or more"


def show(made: dict[str, Any], words: dict[str, str]) -> None:
    """MADE for a person, on stdout."""
    print(made["disclaimer"])
    told, estimate = made["preview_metadata"], made["estimate"]
    rows = [
        (
            "examples learnt from",
            f"{told['sample_size_used']:,} of {told['original_data_size']:,}",
        ),
        ("base model", estimate["base_model_id"]),
        ("steps of each training", estimate["steps"]),
        ("seconds a step", estimate["seconds_a_step"]),
        *((f"refused: {reason}", count) for reason, count in made["rows"]["skipped"].items()),
        ("known already", made["rows"]["known_already"]),
        ("too long", made["rows"]["too_long"]),
    ]
    console.table(f"{told['data_path']}: examples", ("what", "found"), rows)
    leaks = estimate["in_benchmark"]
    if leaks["refused"]:
        print(f"refused: {leaks['refused']}: {leaks['share']:.1%} of the rows; they were left out")
    print(f"confidence: unknown ({told['estimation_confidence_reason']})")
    print(f"{words[estimate['decision']]}: {estimate['reason']}")
    for note in estimate["notes"]:
        print(f"note: {note}")
    print(made["disclaimer"])
