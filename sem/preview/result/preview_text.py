"""The preview for a person, on stdout: the disclaimer first and last."""

from typing import Any

from sem.core import console
from sem.preview.result import task_preview


def print_preview(preview: dict[str, Any], verbose: bool) -> None:
    """Print the document `preview`; `verbose`: the rows to look at, too."""
    print(preview["disclaimer"])
    if "evaluation_metadata" in preview:
        _show(preview, verbose)
    else:
        task_preview.print_examples_preview(preview, WORDS, verbose)
    print(f"Preview complete in {preview['preview_metadata']['time_elapsed']:.0f} s")
    print(preview["disclaimer"])


WORDS = {
    "improves": "it improves the model",
    "does_not_improve": "it does not improve the model",
    "cannot_tell": "it cannot be told",
    "refused": "it is refused",
}


def _show(preview: dict[str, Any], verbose: bool) -> None:
    """A preview of classes or numbers."""
    deltas = preview["delta_computation"]["metric_deltas"].items()
    rows = [
        (n, f"{d['baseline_value']:.4f}", f"{d['new_value']:.4f}", f"{d['absolute_delta']:+.4f}")
        for n, d in deltas
    ]
    metadata = preview["preview_metadata"]
    used, of = metadata["sample_size_used"], metadata["original_data_size"]
    title = f"{metadata['data_path']}: {used:,} of {of:,} rows"
    console.print_table(title, ("metric", "baseline", "with the contribution", "delta"), rows)
    _show_curve(preview["estimate"]["learning_curve"])
    _show_tests(preview["estimate"]["comparators"])
    _show_error(preview["estimate"]["mean_absolute_error"])
    _show_rows(preview["rows"], verbose)
    print(
        f"DeltaOne score (mean of absolute deltas): "
        f"{preview['delta_computation']['delta_one_score']:+.4f}"
    )
    _show_confidence(metadata)
    _show_rule(preview)
    print(f"{WORDS[preview['estimate']['decision']]}: {preview['estimate']['reason']}")
    size = preview["estimate"]["size"]
    if not size["told"]:
        print(f"how much cannot be told: {size['reason']}")
    for note in preview["estimate"]["notes"]:
        print(f"note: {note}")


def _show_curve(curve: list[dict[str, Any]]) -> None:
    rows = [
        (f"{s['rows']:,}", f"{s['mean']:+.1f}", f"[{s['ci95_low']:+.1f}, {s['ci95_high']:+.1f}]")
        for s in curve
    ]
    console.print_table("how the gain grows", ("contributed rows", "points", "95 %"), rows)


def _show_tests(tests: dict[str, dict[str, Any]]) -> None:
    rows = [
        (
            name,
            test["family"],
            f"{test['effect']:+.4f}",
            f"[{test['low']:+.4f}, {test['high']:+.4f}]",
            f"{test['p']:.3g}",
            "passes" if test["passed"] else "does not pass",
        )
        for name, test in tests.items()
    ]
    columns = ("metric", "family", "effect", "95 %", "p", "")
    console.print_table("both models as independent samples", columns, rows)


def _show_confidence(metadata: dict[str, Any]) -> None:
    sure, why = metadata["estimation_confidence"], metadata["estimation_confidence_reason"]
    text = "unknown" if sure is None else f"{sure:.0%} to be near the full result"
    print(f"confidence: {text}{f' ({why})' if why else ''}")


def _show_rule(preview: dict[str, Any]) -> None:
    rule = preview["production_rule"]
    word = "accepted" if rule["accepted"] else f"not accepted: {rule['reason']}"
    unknown = " and ".join(rule["not_known"])
    print(f"production rule: {word} ({unknown} are not known here)")


def _show_error(error: dict[str, Any] | None) -> None:
    """The mean absolute error of a target that is a number."""
    if error:
        gain = error["gain"]
        print(
            f"mean absolute error: {error['baseline']:.4g}, {error['new']:.4g} with the "
            f"contribution: {gain['mean']:+.4g} [{gain['ci95_low']:+.4g}, "
            f"{gain['ci95_high']:+.4g}] less"
        )


def _show_rows(rows: dict[str, Any], verbose: bool) -> None:
    counts = [*rows["advice"].items(), *rows["reasons"].items(), *rows["skipped"].items()]
    console.print_table("rows", ("what", "rows"), counts)
    if not verbose:
        return
    lines = [
        (
            row["where"],
            row["label"],
            row["reason"],
            row["better"] or "",
            "" if row["value"] is None else f"{row['value']:+.6f}",
        )
        for row in rows["to_look_at"][:20]
    ]
    columns = ("row", "label", "why", "rather", "value")
    console.print_table("rows to look at, the worst first", columns, lines)
