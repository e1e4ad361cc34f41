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
        plans = takedown.unfinished(project)
        for plan in plans:
            note(f"{plan.takedown}: was not finished, goes on")
            yield takedown.finish_takedown(project, plan, note)
        if ask.is_empty and not plans:
            raise SemError(
                "nothing is named to take down",
                "name rows with --id, --source, --domain or --person",
            )
        if ask.is_empty:
            return
        plan, trace = takedown.plan_takedown(project, ask, at, _threshold(project))
        if not plan.names and takedown.is_taken_down(project, ask):
            note("it was taken down before, and no row of it has come back")
            return
        takedown.begin_takedown(project, plan, trace)
        yield takedown.finish_takedown(project, plan, note)


def _threshold(project: Project) -> float:
    return float(project.settings("dataset", Dataset).clean.near.threshold)


def preview_takedown(project: Project, ask: Ask) -> list[tuple[str, object]]:
    """Return what a takedown of `ask` would do, as table rows; nothing is written but the salt."""
    plan, trace = takedown.plan_takedown(project, ask, datetime.now(UTC), _threshold(project))
    names = frozenset(plan.names)
    holding = withdraw.holding(project, names)
    scan = byte_scan.scan_tree(project, Sought(trace, names, plan.people))
    versions = {f"v{version}" for version in holding}
    runs = [
        path.parent.name
        for path in sorted(project.adapters.glob("*/run.json"))
        if f"v{state.read_state(path, state.TrainedPlan)['snapshot']['version']}" in versions
    ]
    return [
        *(_counts(plan.counts, plan.names, plan.kept_near)),
        *((f"snapshot v{n} withdrawn", _parts(c)) for n, c in sorted(holding.items())),
        *(("run tainted", name) for name in runs),
        *(("file that holds them", name) for name in scan.hits),
        *(("not readable", f"{name}: {why}") for name, why in sorted(scan.unreadable.items())),
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


def receipt_table(outcome: Done) -> list[tuple[str, object]]:
    """Return the receipt of `outcome` as table rows."""
    receipt = outcome.receipt
    scanned = receipt["scan"]
    listed: list[tuple[str, Any]] = [
        *(
            (f"rows by {why}" if why != "total" else "rows", n)
            for why, n in receipt["rows"].items()
        ),
        ("near-duplicates kept: not alike enough", receipt["near_duplicates_kept"]),
        ("tombstones", receipt["tombstones"]),
        *(
            (f"snapshot {n} withdrawn", _parts(c))
            for n, c in receipt["snapshots_withdrawn"].items()
        ),
        ("snapshot made", receipt["snapshot_made"] or "-"),
        ("runs tainted", ", ".join(receipt["runs_tainted"]) or "-"),
        ("packages tainted", ", ".join(receipt["packages_tainted"]) or "-"),
        ("promoted and tainted: retrain", receipt["promoted_and_tainted"] or "-"),
        *(
            (f"rows purged from {name}", count)
            for name, count in receipt["purged"]["rows"].items()
        ),
        *(("document removed", name) for name in receipt["purged"]["documents"]),
        ("files scanned", f"{scanned['read']:,} ({scanned['bytes']:,} bytes)"),
        *((f"not scanned: {what}", count) for what, count in scanned["left_out"].items()),
        *(("not readable", f"{name}: {why}") for name, why in scanned["unreadable"].items()),
        ("files with a trace", len(scanned["hits"])),
        *(("trace in", name) for name in scanned["hits"]),
        *(("out of reach", what) for what in receipt["out_of_reach"]),
    ]
    return listed
