"""The preview for a person, on stdout: the disclaimer first and last."""

from typing import Any

from sem.core import console
from sem.preview.result import task_preview


def print_preview(made: dict[str, Any], verbose: bool) -> None:
    """Print the document `made`; `verbose`: the rows to look at, too."""
    print(made["disclaimer"])
    if "evaluation_metadata" in made:
        _show(made, verbose)
    else:
        task_preview.print_examples_preview(made, WORDS, verbose)
    print(f"Preview complete in {made['preview_metadata']['time_elapsed']:.0f} s")
    print(made["disclaimer"])


WORDS = {
    "improves": "it improves the model",
    "does_not_improve": "it does not improve the model",
    "cannot_tell": "it cannot be told",
    "refused": "it is refused",
}


def _show(made: dict[str, Any], verbose: bool) -> None:
    """A preview of classes or numbers."""
    deltas = made["delta_computation"]["metric_deltas"].items()
    rows = [
        (n, f"{d['baseline_value']:.4f}", f"{d['new_value']:.4f}", f"{d['absolute_delta']:+.4f}")
        for n, d in deltas
    ]
    told = made["preview_metadata"]
    title = (
        f"{told['data_path']}: {told['sample_size_used']:,} of {told['original_data_size']:,} rows"
    )
    console.print_table(title, ("metric", "baseline", "with the contribution", "delta"), rows)
    _show_curve(made["estimate"]["learning_curve"])
    _show_tests(made["estimate"]["comparators"])
    _show_error(made["estimate"]["mean_absolute_error"])
    _show_rows(made["rows"], verbose)
    print(
        f"DeltaOne score (mean of absolute deltas): "
        f"{made['delta_computation']['delta_one_score']:+.4f}"
    )
    _show_confidence(told)
    _show_rule(made)
    print(f"{WORDS[made['estimate']['decision']]}: {made['estimate']['reason']}")
    size = made["estimate"]["size"]
    if not size["told"]:
        print(f"how much cannot be told: {size['reason']}")
    for note in made["estimate"]["notes"]:
        print(f"note: {note}")


def _show_curve(curve: list[dict[str, Any]]) -> None:
    rows = [
        (f"{s['rows']:,}", f"{s['mean']:+.1f}", f"[{s['ci95_low']:+.1f}, {s['ci95_high']:+.1f}]")
        for s in curve
    ]
    console.print_table("how the gain grows", ("contributed rows", "points", "95 %"), rows)


def _show_tests(found: dict[str, dict[str, Any]]) -> None:
    rows = [
        (
            name,
            one["family"],
            f"{one['effect']:+.4f}",
            f"[{one['low']:+.4f}, {one['high']:+.4f}]",
            f"{one['p']:.3g}",
            "passes" if one["passed"] else "does not pass",
        )
        for name, one in found.items()
    ]
    columns = ("metric", "family", "effect", "95 %", "p", "")
    console.print_table("both models as independent samples", columns, rows)


def _show_confidence(told: dict[str, Any]) -> None:
    sure, why = told["estimation_confidence"], told["estimation_confidence_reason"]
    shown = "unknown" if sure is None else f"{sure:.0%} to be near the full result"
    print(f"confidence: {shown}{f' ({why})' if why else ''}")


def _show_rule(made: dict[str, Any]) -> None:
    rule = made["production_rule"]
    word = "accepted" if rule["accepted"] else f"not accepted: {rule['reason']}"
    unknown = " and ".join(rule["not_known"])
    print(f"production rule: {word} ({unknown} are not known here)")


def _show_error(found: dict[str, Any] | None) -> None:
    """The mean absolute error of a target that is a number."""
    if found:
        gain = found["gain"]
        print(
            f"mean absolute error: {found['baseline']:.4g}, {found['new']:.4g} with the "
            f"contribution: {gain['mean']:+.4g} [{gain['ci95_low']:+.4g}, "
            f"{gain['ci95_high']:+.4g}] less"
        )


def _show_rows(rows: dict[str, Any], verbose: bool) -> None:
    counts = [*rows["advice"].items(), *rows["reasons"].items(), *rows["skipped"].items()]
    console.print_table("rows", ("what", "rows"), counts)
    if not verbose:
        return
    looked = [
        (
            one["where"],
            one["label"],
            one["reason"],
            one["better"] or "",
            "" if one["value"] is None else f"{one['value']:+.6f}",
        )
        for one in rows["to_look_at"][:20]
    ]
    columns = ("row", "label", "why", "rather", "value")
    console.print_table("rows to look at, the worst first", columns, looked)
