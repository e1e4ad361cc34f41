"""hokusai-preview: what a file of rows is worth, in minutes, on this machine, with no network.

    hokusai-preview --data-path mine.parquet             by itself: cut in three
    hokusai-preview --data-path mine.csv --sem banking   against the base and benchmark of a sem
    hokusai-preview --data-path mine.jsonl --output-format json --output-file preview.json
    hokusai-preview --data-path mine.csv --zk proof.json the strict document, too

Reads   CSV, TSV, JSON, JSON lines (each also .gz) or Parquet: a text or numbers, and a label
Writes  the result to stdout, progress to stderr, files only where they are named
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, provenance
from sem.core.errors import SemError
from sem.core.project import ROOT, Project

FORMATS = ("pretty", "json")


def parser() -> argparse.ArgumentParser:
    """The flags, as older previews had them and a few more."""
    made = console.parser(__doc__, "set")
    made.prog = "hokusai-preview"
    made.add_argument("--data-path", type=Path, required=True, help="the contribution")
    made.add_argument("--output-format", choices=FORMATS, default="pretty")
    made.add_argument("--output-file", type=Path, help="also write the JSON there")
    made.add_argument(
        "--sample-size", type=int, default=10_000, help="rows used at most (default: 10000)"
    )
    made.add_argument("--sem", help="compare with what its preview.yaml names")
    made.add_argument(
        "--test-mode", action="store_true", help="500 rows, a few steps: the path, not the figure"
    )
    made.add_argument("--random-seed", type=int, default=42, help="of the sample and the cuts")
    made.add_argument("--seconds", type=float, default=240.0, help="what it may take (240)")
    made.add_argument("--verbose", action="store_true", help="also list the rows to look at")
    made.add_argument("--zk", type=Path, metavar="FILE", help="also write the strict document")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; SemError for what the user can fix."""
    args = parser().parse_args(argv)
    _check(args)
    from sem.preview import document, run, zk

    project = Project.load(args.sem, args.set) if args.sem else None
    options = run.Options(
        args.data_path, args.sample_size, args.random_seed, args.test_mode, args.seconds
    )
    found = run.preview(options, project, provenance.now(), lambda step: console.note(f"… {step}"))
    made = document.preview(found)
    strict = zk.document(made, _version()) if args.zk else None
    if args.output_file:
        files.write(args.output_file, jsonio.pretty(made))
    if args.zk:
        files.write(args.zk, jsonio.pretty(strict))
    if args.output_format == "json":
        sys.stdout.write(jsonio.pretty(made))
        return
    show(made, args.verbose)


def _version() -> str:
    """The commit of this program, where it is known."""
    return str(provenance.commit(ROOT)["commit"] or "unknown")


def _check(args: argparse.Namespace) -> None:
    if args.sample_size < 1 or not args.seconds > 0:
        raise SemError(
            f"--sample-size {args.sample_size}, --seconds {args.seconds}", "both are above 0"
        )
    for path in (args.output_file, args.zk):
        if path is not None and path.resolve() == args.data_path.resolve():
            raise SemError(f"{path}: that is the contribution itself", "name another file")


def show(made: dict[str, Any], verbose: bool) -> None:
    """The result for a person, on stdout; the disclaimer first and last."""
    print(made["disclaimer"])
    deltas = made["delta_computation"]["metric_deltas"].items()
    rows = [
        (n, f"{d['baseline_value']:.4f}", f"{d['new_value']:.4f}", f"{d['absolute_delta']:+.4f}")
        for n, d in deltas
    ]
    told = made["preview_metadata"]
    title = (
        f"{told['data_path']}: {told['sample_size_used']:,} of {told['original_data_size']:,} rows"
    )
    console.table(title, ("metric", "baseline", "with the contribution", "delta"), rows)
    _show_curve(made["estimate"]["learning_curve"])
    _show_rows(made["rows"], verbose)
    print(
        f"DeltaOne score (mean of absolute deltas): "
        f"{made['delta_computation']['delta_one_score']:+.4f}"
    )
    sure = told["estimation_confidence"]
    shown = "not calibrated here" if sure is None else f"{sure:.0%} to be near the full result"
    print(f"confidence: {shown}")
    print(f"{WORDS[made['estimate']['decision']]}: {made['estimate']['reason']}")
    for note in made["estimate"]["notes"]:
        print(f"note: {note}")
    print(made["disclaimer"])


WORDS = {
    "improves": "it improves the model",
    "does_not_improve": "it does not improve the model",
    "cannot_tell": "it cannot be told",
}


def _show_curve(curve: list[dict[str, Any]]) -> None:
    rows = [
        (f"{s['rows']:,}", f"{s['mean']:+.1f}", f"[{s['ci95_low']:+.1f}, {s['ci95_high']:+.1f}]")
        for s in curve
    ]
    console.table("how the gain grows", ("contributed rows", "points", "95 %"), rows)


def _show_rows(rows: dict[str, Any], verbose: bool) -> None:
    counts = [*rows["advice"].items(), *rows["reasons"].items(), *rows["skipped"].items()]
    console.table("rows", ("what", "rows"), counts)
    if not verbose:
        return
    looked = [
        (one["where"], one["label"], one["reason"], one["better"] or "", f"{one['value']:+.6f}")
        for one in rows["to_look_at"][:20]
    ]
    columns = ("row", "label", "why", "rather", "value")
    console.table("rows to look at, the worst first", columns, looked)


def entry() -> None:
    """The console command `hokusai-preview`."""
    console.run(main)


if __name__ == "__main__":
    entry()
