"""Takedown: rows that must go, out of everything that Sem wrote, and a receipt of it.

    plan → tombstones → store → clean set → snapshots → other files → taint → scan → receipt

The plan is written first, and every step after it can be repeated, so a run that was killed
anywhere is finished by the next one. It stays open while the scan still finds a trace.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, run, settings, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean, clean_set
from sem.dataset.config import Dataset
from sem.dataset.personal.person import Person
from sem.dataset.store import tombstones
from sem.dataset.store.tombstones import Tombstones
from sem.dataset.takedown import byte_scan, erase, purge, withdraw
from sem.dataset.takedown import requested_rows as asked
from sem.dataset.takedown.byte_scan import ScanResult, ScanTarget
from sem.dataset.takedown.requested_rows import RowSelection, TakedownRequest
from sem.dataset.takedown.shingles import ShingleSet

JOURNAL = "takedown.jsonl"
STEPS = ("tombstones", "store", "clean", "snapshots", "purge", "taint", "scan")
# Lock files of jobs that read rows first and write them later.
WAITED_FOR = {
    ".clean.lock": clean.NAME,
    ".snapshot.lock": "the snapshots",
    ".augment.lock": "what is made of the snapshots",
}
OUT_OF_REACH = (
    "git history and remotes",
    "backups and copies on other machines",
    "what weights have learned: runs and packages are blocked, not unlearned",
    "caches of other programs outside the project's root",
)


@dataclass(frozen=True)
class TakedownPlan:
    """One takedown as it was decided; it holds ids and names, and is removed at the end."""

    takedown: str
    at: str
    reason: str
    asked: dict[str, int]
    names: tuple[str, ...]
    people: tuple[Person, ...]
    stones: tuple[dict[str, Any], ...]
    counts: dict[str, int]
    kept_near: int
    # Before the rows left it.
    store_sha256: str | None
    clean_sha256: str | None
    # Of the shingles: 1 keeps all of them.
    step: int = 1
    # Rows without any shingle of their own.
    short: int = 0

    @property
    def note(self) -> dict[str, str]:
        """Return what the ledger says of it."""
        return {"takedown": self.takedown, "at": self.at, "reason": self.reason}


@dataclass(frozen=True)
class TakedownResult:
    """What one takedown did, and what the scan says."""

    receipt: dict[str, Any]
    path: Path

    @property
    def hits(self) -> list[str]:
        """Return files that still hold a trace."""
        return list(self.receipt["scan"]["hits"])


def plan_takedown(
    project: Project, ask: TakedownRequest, at: datetime, threshold: float
) -> tuple[TakedownPlan, ShingleSet]:
    """Return what `ask` would take down, and how its traces are found.

    Writes nothing but the salt.
    """
    stones = tombstones.load_salted_tombstones(project)
    selection = asked.choose_rows(project, ask, threshold)
    names = frozenset(selection.why)
    trace = asked.collect_trace(project, names)
    digest = files.sha256_json([stones.digest("ask", repr(ask)), at.isoformat()])[:4]
    name = f"td-{at:%Y%m%d-%H%M%S}-{digest}"
    common = {"takedown": name, "at": f"{at:%Y-%m-%d}", "reason": ask.reason}
    plan = TakedownPlan(
        takedown=name,
        at=at.isoformat(),
        reason=ask.reason,
        asked={k: len(v) for k, v in asdict(ask).items() if k != "reason"},
        names=tuple(sorted(names)),
        people=ask.people,
        stones=tuple({**common, **stone} for stone in _stones(project, stones, ask, selection)),
        counts=selection.counts(),
        kept_near=len(selection.kept_near),
        store_sha256=files.sha256_file(project.store) if project.store.exists() else None,
        clean_sha256=clean_set.clean_set_sha256(project),
        step=trace.step,
        short=sum(not byte_scan.is_telling(name) for name in names),
    )
    return plan, trace


def _stones(
    project: Project, stones: Tombstones, ask: TakedownRequest, selection: RowSelection
) -> Iterator[dict[str, Any]]:
    """Yield a stone for each thing asked for, and for id, content and page of each row that
    goes.
    """
    keys: set[tuple[str, str]] = {("id", name) for name in (*ask.ids, *selection.why)}
    keys |= {("source", name) for name in ask.sources}
    keys |= {("domain", name) for name in ask.domains}
    for _, row in asked.iter_project_rows(project) if selection.why else ():
        if row.id in selection.why:
            page = row.page
            keys.add(("content", row.content))
            keys |= {("page", page)} if page else set()
    yield from ({"kind": k, "digest": stones.digest(k, text)} for k, text in sorted(keys))
    for target in ask.people:
        digest = stones.digest("person", f"{target.form} {target.key}")
        yield {"kind": "person", "digest": digest, "form": target.form, "words": target.words}


def begin_takedown(project: Project, plan: TakedownPlan, trace: ShingleSet) -> None:
    """Write `plan` and `trace`.

    From here on the takedown is finished, whatever happens.
    """
    import numpy as np

    folder = tombstones.governance_folder(project)
    with files.open_atomic_file(_trace_path(folder, plan.takedown), 0o600) as file:
        np.save(file, trace.hashes)
    with files.open_atomic_file(_plan_path(folder, plan.takedown), 0o600) as file:
        file.write(jsonio.pretty_json(asdict(plan)).encode("utf-8"))
    _log(project, plan, "planned", {"rows": len(plan.names)})


def _plan_path(folder: Path, takedown: str) -> Path:
    return folder / f"{byte_scan.WORKING}{takedown}.json"


def _trace_path(folder: Path, takedown: str) -> Path:
    return folder / f"{byte_scan.WORKING}{takedown}.npy"


def _log(project: Project, plan: TakedownPlan, state: str, facts: dict[str, Any]) -> None:
    with files.open_for_append(tombstones.governance_folder(project) / JOURNAL) as file:
        files.append_row(file, {"takedown": plan.takedown, "state": state, **facts})


def remove_stale_traces(project: Project) -> None:
    """Remove traces whose plan a killed takedown did not come to write, or removed already."""
    for path in tombstones.governance_folder(project).glob(f"{byte_scan.WORKING}*.npy"):
        if not path.with_suffix(".json").exists():
            path.unlink()


def unfinished_takedowns(project: Project) -> list[TakedownPlan]:
    """Return the takedowns that were begun and are not at their end, the oldest first."""
    paths = sorted(tombstones.governance_folder(project).glob(f"{byte_scan.WORKING}*.json"))
    return [_read(path) for path in paths]


def _read(path: Path) -> TakedownPlan:
    return settings.build_settings(TakedownPlan, files.read_object(path), str(path))


def finish_takedown(
    project: Project, plan: TakedownPlan, note: Callable[[str], object] = lambda step: None
) -> TakedownResult:
    """Return every step of `plan`, again or for the first time.

    `note` is called before each.
    """
    import numpy as np

    folder = tombstones.governance_folder(project)
    hashes = np.load(_trace_path(folder, plan.takedown), allow_pickle=False)
    sought = ScanTarget(ShingleSet(hashes, plan.step), frozenset(plan.names), plan.people)
    results: dict[str, Any] = {}
    for step in STEPS:
        note(step)
        results[step] = ACTS[step](project, plan, sought)
        _log(project, plan, step, {})
    outcome = _receipt(project, plan, results)
    if not outcome.hits:
        _plan_path(folder, plan.takedown).unlink()
        _trace_path(folder, plan.takedown).unlink()
        files.sync_path(folder)
    _log(project, plan, "open" if outcome.hits else "done", {"hits": len(outcome.hits)})
    return outcome


def _tombstones(project: Project, plan: TakedownPlan, sought: ScanTarget) -> int:
    return tombstones.add_tombstones(project, plan.stones)


def _store(project: Project, plan: TakedownPlan, sought: ScanTarget) -> int:
    return erase.erase_rows(project.store, sought.names)


def _clean(project: Project, plan: TakedownPlan, sought: ScanTarget) -> int:
    return clean_set.drop_clean_rows(project, sought.names, plan.store_sha256, plan.clean_sha256)


def _snapshots(project: Project, plan: TakedownPlan, sought: ScanTarget) -> list[str]:
    renamed = {}
    if plan.store_sha256 and project.store.exists():
        renamed[plan.store_sha256] = files.sha256_file(project.store)
    if plan.clean_sha256 and (now := clean_set.clean_set_sha256(project)):
        renamed[plan.clean_sha256] = now
    return withdraw.withdraw_snapshots(project, sought.names, plan.note, renamed)


def _purge(project: Project, plan: TakedownPlan, sought: ScanTarget) -> dict[str, Any]:
    return asdict(purge.purge_files(project, sought))


def _taint(project: Project, plan: TakedownPlan, sought: ScanTarget) -> dict[str, list[str]]:
    """Mark every run and package that rests on a snapshot which this takedown withdrew."""
    rows_taken = withdraw.rows_taken(project, plan.takedown)
    tainted: dict[str, list[str]] = {"runs": [], "packages": []}
    with run.hold_publish_lock(project.models):
        for path in sorted(project.adapters.glob("*/run.json")):
            rests: Mapping[str, Any] = state.read_state_file(path, state.TrainedPlan)["snapshot"]
            _mark(path.parent, rests, rows_taken, plan, tainted["runs"])
        for path in sorted(project.packages.glob("*/manifest.json")):
            rests = (
                state.read_state_file(path, state.PackageManifest)
                .get("lineage", {})
                .get("snapshot", {})
            )
            _mark(path.parent, rests, rows_taken, plan, tainted["packages"])
    return tainted


def _mark(
    folder: Path,
    rests: Mapping[str, Any],
    rows_taken: dict[str, Any],
    plan: TakedownPlan,
    into: list[str],
) -> None:
    name = f"v{rests.get('version')}"
    if name in rows_taken:
        run.mark_tainted(
            folder, plan.takedown, plan.at, {"snapshot": name, "rows": rows_taken[name]}
        )
        into.append(folder.name)


def _scan(project: Project, plan: TakedownPlan, sought: ScanTarget) -> ScanResult:
    return byte_scan.scan_tree(project, sought)


def refuse_while_written(project: Project) -> None:
    """Raise Busy while a cleaning, a split or an augmentation has read rows that are to go.

    Nothing is planned and nothing erased before it ends. Exports, trainings and promotions need
    not be waited for: they ask for taint again before they publish.
    """
    for name, what in WAITED_FOR.items():
        with files.lock_file(project.processed / name, f"{what} of {project.sem}"):
            pass


ACTS: dict[str, Callable[[Project, TakedownPlan, ScanTarget], Any]] = {
    "tombstones": _tombstones,
    "store": _store,
    "clean": _clean,
    "snapshots": _snapshots,
    "purge": _purge,
    "taint": _taint,
    "scan": _scan,
}


def _receipt(project: Project, plan: TakedownPlan, results: dict[str, Any]) -> TakedownResult:
    """Return the receipt of the takedown, without an id or a word of what went."""
    path = project.reports / f"takedown-{plan.takedown}.json"
    serves = run.read_promotion(project)
    receipt = {
        "format": "takedown.v1",
        **plan.note,
        "asked": plan.asked,
        "rows": {"total": len(plan.names), **plan.counts},
        "near_duplicates_kept": plan.kept_near,
        "tombstones": len(plan.stones),
        "snapshots_withdrawn": withdraw.rows_taken(project, plan.takedown),
        "snapshot_made": withdraw.successor_snapshot(project, plan.takedown),
        "runs_tainted": results["taint"]["runs"],
        "packages_tainted": results["taint"]["packages"],
        "promoted_and_tainted": _serving(serves, results["taint"]["runs"]),
        "purged": _earlier(path, results["purge"]),
        "scan": {**asdict(results["scan"]), "every_nth_shingle": plan.step},
        "ids_not_looked_for_in_documents": plan.short,
        "out_of_reach": list(OUT_OF_REACH),
    }
    files.write_file(path, jsonio.pretty_json(receipt))
    return TakedownResult(receipt, path)


def _serving(serves: Mapping[str, Any] | None, runs: list[str]) -> str | None:
    return serves["run"] if serves and serves["run"] in runs else None


def _earlier(path: Path, purged: dict[str, Any]) -> dict[str, Any]:
    """Return `purged` with what an earlier, interrupted finish of the same takedown says it
    removed.
    """
    receipt = state.read_if_there(path, state.Receipt)
    before = receipt["purged"] if receipt else {"rows": {}, "documents": []}
    rows = {
        name: before["rows"].get(name, 0) + purged["rows"].get(name, 0)
        for name in sorted({*before["rows"], *purged["rows"]})
    }
    return {"rows": rows, "documents": sorted({*before["documents"], *purged["documents"]})}


def is_taken_down(project: Project, ask: TakedownRequest) -> bool:
    """Return whether everything `ask` names was taken down before."""
    stones = tombstones.load_tombstones(project)
    people = [("person", f"{target.form} {target.key}") for target in ask.people]
    named = [("id", n) for n in ask.ids] + [("source", n) for n in ask.sources]
    named += [("domain", n) for n in ask.domains] + people
    return all(stones.has(kind, text) for kind, text in named)


# Takedowns as a person asks for them: looked at first, begun, finished, told as a table.


def run_takedowns(
    project: Project, ask: TakedownRequest, at: datetime, note: Callable[[str], object]
) -> Iterator[TakedownResult]:
    """Finish what was interrupted, then take down what `ask` names.

    Raise SemError when there is nothing.

    `note` is told each step. Two takedowns of one sem at a time are Busy.
    """
    folder = tombstones.governance_folder(project)
    with files.lock_file(folder / ".takedown.lock", f"the takedowns of {project.sem}"):
        refuse_while_written(project)
        remove_stale_traces(project)
        plans = unfinished_takedowns(project)
        for plan in plans:
            note(f"{plan.takedown}: was interrupted, continuing")
            yield finish_takedown(project, plan, note)
        if ask.is_empty and not plans:
            raise SemError(
                "no rows to take down are named",
                "name rows with --id, --source, --domain or --person",
            )
        if ask.is_empty:
            return
        plan, trace = plan_takedown(project, ask, at, _threshold(project))
        if not plan.names and is_taken_down(project, ask):
            note("it was taken down before, and none of its rows has come back")
            return
        begin_takedown(project, plan, trace)
        yield finish_takedown(project, plan, note)


def _threshold(project: Project) -> float:
    return float(project.settings("dataset", Dataset).clean.near.threshold)


def preview_takedown(project: Project, ask: TakedownRequest) -> list[tuple[str, object]]:
    """Return what a takedown of `ask` would do, as table rows; nothing is written but the salt."""
    plan, trace = plan_takedown(project, ask, datetime.now(UTC), _threshold(project))
    names = frozenset(plan.names)
    holding = withdraw.find_affected_snapshots(project, names)
    scan = byte_scan.scan_tree(project, ScanTarget(trace, names, plan.people))
    versions = {f"v{version}" for version in holding}
    runs = [
        path.parent.name
        for path in sorted(project.adapters.glob("*/run.json"))
        if f"v{state.read_state_file(path, state.TrainedPlan)['snapshot']['version']}" in versions
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


def receipt_table(outcome: TakedownResult) -> list[tuple[str, object]]:
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
