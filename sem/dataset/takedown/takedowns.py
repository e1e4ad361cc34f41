"""Takedowns as a person asks for them: looked at first, begun, finished, told as a table."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from sem.core import files, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.config import Dataset
from sem.dataset.store import tombstones
from sem.dataset.takedown import byte_scan, takedown, withdraw
from sem.dataset.takedown.byte_scan import Sought
from sem.dataset.takedown.requested_rows import Ask
from sem.dataset.takedown.takedown import Done


def run_takedowns(
    project: Project, ask: Ask, at: datetime, note: Callable[[str], object]
) -> Iterator[Done]:
    """Finish what was interrupted, then take down what `ask` names.

    Raise SemError when there is nothing.

    `note` is told each step. Two takedowns of one sem at a time are Busy.
    """
    folder = tombstones.governance_folder(project)
    with files.lock(folder / ".takedown.lock", f"the takedowns of {project.sem}"):
        takedown.refuse_while_written(project)
        takedown.remove_stale_traces(project)
        left = takedown.unfinished(project)
        for made in left:
            note(f"{made.takedown}: was not finished, goes on")
            yield takedown.finish_takedown(project, made, note)
        if ask.is_empty and not left:
            raise SemError(
                "nothing is named to take down",
                "name rows with --id, --source, --domain or --person",
            )
        if ask.is_empty:
            return
        made, trace = takedown.plan_takedown(project, ask, at, _threshold(project))
        if not made.names and takedown.is_taken_down(project, ask):
            note("it was taken down before, and no row of it has come back")
            return
        takedown.begin_takedown(project, made, trace)
        yield takedown.finish_takedown(project, made, note)


def _threshold(project: Project) -> float:
    return float(project.settings("dataset", Dataset).clean.near.threshold)


def preview_takedown(project: Project, ask: Ask) -> list[tuple[str, object]]:
    """Return what a takedown of `ask` would do, as table rows; nothing is written but the salt."""
    made, trace = takedown.plan_takedown(project, ask, datetime.now(UTC), _threshold(project))
    names = frozenset(made.names)
    holding = withdraw.holding(project, names)
    found = byte_scan.scan_tree(project, Sought(trace, names, made.people))
    versions = {f"v{version}" for version in holding}
    runs = [
        path.parent.name
        for path in sorted(project.adapters.glob("*/run.json"))
        if f"v{state.read_state(path, state.TrainedPlan)['snapshot']['version']}" in versions
    ]
    return [
        *(_counts(made.counts, made.names, made.kept_near)),
        *((f"snapshot v{n} withdrawn", _parts(c)) for n, c in sorted(holding.items())),
        *(("run tainted", name) for name in runs),
        *(("file that holds them", name) for name in found.hits),
        *(("not readable", f"{name}: {why}") for name, why in sorted(found.unreadable.items())),
    ]


def _counts(
    counts: dict[str, int], names: tuple[str, ...], kept_near: int
) -> Iterator[tuple[str, object]]:
    yield "rows", len(names)
    yield from ((f"rows by {why}", count) for why, count in counts.items())
    yield "first ids", ", ".join(names[:5]) or "-"
    yield "near-duplicates kept: not alike enough", kept_near


def _parts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} of {part}" for part, count in counts.items() if count)


def receipt_table(done: Done) -> list[tuple[str, object]]:
    """Return the receipt of `done` as table rows."""
    told = done.receipt
    scanned = told["scan"]
    listed: list[tuple[str, Any]] = [
        *((f"rows by {why}" if why != "total" else "rows", n) for why, n in told["rows"].items()),
        ("near-duplicates kept: not alike enough", told["near_duplicates_kept"]),
        ("tombstones", told["tombstones"]),
        *((f"snapshot {n} withdrawn", _parts(c)) for n, c in told["snapshots_withdrawn"].items()),
        ("snapshot made", told["snapshot_made"] or "-"),
        ("runs tainted", ", ".join(told["runs_tainted"]) or "-"),
        ("packages tainted", ", ".join(told["packages_tainted"]) or "-"),
        ("promoted and tainted: retrain", told["promoted_and_tainted"] or "-"),
        *((f"rows purged from {name}", count) for name, count in told["purged"]["rows"].items()),
        *(("document removed", name) for name in told["purged"]["documents"]),
        ("files scanned", f"{scanned['read']:,} ({scanned['bytes']:,} bytes)"),
        *((f"not scanned: {what}", count) for what, count in scanned["left_out"].items()),
        *(("not readable", f"{name}: {why}") for name, why in scanned["unreadable"].items()),
        ("files with a trace", len(scanned["hits"])),
        *(("trace in", name) for name in scanned["hits"]),
        *(("out of reach", what) for what in told["out_of_reach"]),
    ]
    return listed
