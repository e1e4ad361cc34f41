"""`preview.run` from its flags to what it prints and writes, with the cache in between."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sem.core import console, files, jsonio, provenance
from sem.core.errors import SemError
from sem.core.project import ROOT, Project
from sem.preview.result import task_preview

# The preview for a person, on stdout: the disclaimer first and last.


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


if TYPE_CHECKING:
    from sem.preview.result.preview_run import PreviewOptions


@dataclass(frozen=True)
class PreviewRequest:
    """What `preview.run` was asked; the fields are its flags."""

    data_path: Path
    output_format: str
    output_file: Path | None
    sample_size: int
    sem: str | None
    target: str
    test_mode: bool
    random_seed: int
    seconds: float
    zk: Path | None
    verbose: bool
    baseline_model: Path | None
    save_model: Path | None
    cache: Path | None
    set: tuple[str, ...]


def run_preview(args: PreviewRequest) -> None:
    """Preview, print and write; raise SemError for what the user can fix."""
    _check(args)
    from sem.preview.result import acceptance, zk

    project = Project.load(args.sem, args.set) if args.sem else None
    preview = _made(args, project)
    if args.zk and preview["estimate"]["primary_metric"] != acceptance.METRIC:
        raise SemError(
            "--zk: a strict document needs an accuracy, and numbers have none", "leave out --zk"
        )
    is_refused = preview["estimate"]["decision"] == "refused"
    # A strict document has no field for a refusal: it would prove a gain that does not count.
    strict = zk.build_zk_document(preview, _version()) if args.zk and not is_refused else None
    if args.output_file:
        files.write_file(args.output_file, jsonio.pretty_json(preview))
    if strict:
        files.write_file(args.zk, jsonio.pretty_json(strict))
    if args.output_format == "json":
        sys.stdout.write(jsonio.pretty_json(preview))
    else:
        print_preview(preview, args.verbose)
    if is_refused:
        unwritten = f"; {args.zk} was not written" if args.zk else ""
        raise SemError(
            f"{args.data_path}: refused: {preview['estimate']['reason']}{unwritten}",
            "take out the rows that copy the benchmark; --verbose lists them",
        )


def _made(args: PreviewRequest, project: Project | None) -> dict[str, Any]:
    """Return the document, from the cache where the same was asked before."""
    from sem.preview.linear import cache
    from sem.preview.result import preview_run, sources

    folder = args.cache or (project and project.root / "data" / project.sem / cache.FOLDER)
    cache.remove_stale_previews(folder, time.time())
    options = preview_run.PreviewOptions(
        args.data_path,
        args.sample_size,
        args.random_seed,
        args.test_mode,
        args.seconds,
        args.baseline_model,
        folder,
        target=args.target,
    )
    if project and sources.load_preview_settings(project).is_of_examples:
        question = _of_examples(args, options, project)
    else:
        question = _of_rows(args, options, project)
    options = replace(options, parts=cache.partial_fits_folder(folder, question.name))
    preview = None if args.save_model else cache.find_preview(folder, question.name)
    if preview:
        console.print_note(f"cached: {folder / f'{question.name}.json'}")
        preview["preview_metadata"]["cached"] = True
    else:
        if count := cache.count_kept_parts(options.parts):
            console.print_note(f"continuing: {count} results of an interrupted preview are kept")
        preview = question.answer(options)
        cache.keep_preview(folder, question.name, preview)
    cache.forget_parts(options.parts)
    return preview


@dataclass(frozen=True)
class PreviewQuestion:
    """What is asked: its name, empty where nothing is kept, and what answers it."""

    name: str
    answer: Callable[["PreviewOptions"], dict[str, Any]]


def _of_rows(
    args: PreviewRequest, options: "PreviewOptions", project: Project | None
) -> PreviewQuestion:
    """Return what rows with labels are worth."""
    from sem.preview.linear import linear_models
    from sem.preview.result import document, preview_run

    def answer(options: "PreviewOptions") -> dict[str, Any]:
        result = preview_run.preview_rows(options, project, provenance.utc_now(), _watched)
        if args.save_model:
            train_rows = result.worth.learnt_rows
            linear_models.write_linear_model(
                args.save_model, result.worth.estimate.models[1], train_rows
            )
        return document.preview_document(result)

    return PreviewQuestion(
        preview_run.preview_name(options, project) if options.cache else "", answer
    )


def _of_examples(
    args: PreviewRequest, options: "PreviewOptions", project: Project
) -> PreviewQuestion:
    """Return what examples of the task of `project` are worth."""
    from sem.preview.result import task_preview

    _check_examples(args)
    package = task_preview.package_of(options, project)

    def answer(options: "PreviewOptions") -> dict[str, Any]:
        return task_preview.preview_examples(
            options, project, package, provenance.utc_now(), _watched
        )

    return PreviewQuestion(task_preview.examples_preview_name(options, project, package), answer)


def _check_examples(args: PreviewRequest) -> None:
    """Raise SemError for what a preview of examples cannot give."""
    lacking = {
        "--zk": (args.zk, "a strict document wants an accuracy, and examples have none"),
        "--save-model": (args.save_model, "adapters of so few steps are thrown away"),
        "--target": (args.target != "auto", "the task's schema says what answers are"),
    }
    for flag, (value, why) in lacking.items():
        if value:
            raise SemError(
                f"{flag}: {why}", f"leave out {flag}, or name base and benchmark in preview.yaml"
            )


def _watched(step: str) -> None:
    console.print_note(f"… {step}")


def _version() -> str:
    """Return the commit of this program, where it is known."""
    return str(provenance.read_git_commit(ROOT)["commit"] or "unknown")


def _check(args: PreviewRequest) -> None:
    if args.sample_size < 1 or not args.seconds > 0:
        raise SemError(
            f"--sample-size {args.sample_size}, --seconds {args.seconds}", "both are above 0"
        )
    for path in (args.output_file, args.zk, args.save_model):
        if path is not None and os.path.realpath(path) == os.path.realpath(args.data_path):
            raise SemError(f"{path}: that is the contribution itself", "name another file")
    if args.baseline_model and not args.sem:
        raise SemError(
            "--baseline-model without --sem: what it was trained on is not known",
            "name the sem whose preview.yaml holds its base rows",
        )
    if args.set and not args.sem:
        raise SemError(
            f"--set {args.set[0]!r} without --sem: no settings file is read",
            "name the sem whose preview.yaml it changes",
        )
