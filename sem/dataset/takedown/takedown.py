"""Takedown: rows that must go, out of everything that Sem wrote, and a receipt of it.

    plan → tombstones → store → clean set → snapshots → other files → taint → scan → receipt

The plan is written first, and every step after it can be repeated, so a run that was killed
anywhere is finished by the next one. It stays open while the scan still finds a trace.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, promotion, settings, state, taint
from sem.core.project import Project
from sem.dataset.clean import clean, clean_set
from sem.dataset.personal.person import Person
from sem.dataset.store import tombstones
from sem.dataset.store.tombstones import Stones
from sem.dataset.takedown import byte_scan, erase, purge, withdraw
from sem.dataset.takedown import requested_rows as asked
from sem.dataset.takedown.byte_scan import Found, Sought
from sem.dataset.takedown.requested_rows import Ask, Chosen
from sem.dataset.takedown.shingles import Trace

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
class Plan:
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
class Done:
    """What one takedown did, and what the scan says."""

    receipt: dict[str, Any]
    path: Path

    @property
    def hits(self) -> list[str]:
        """Return files that still hold a trace."""
        return list(self.receipt["scan"]["hits"])


def plan_takedown(
    project: Project, ask: Ask, at: datetime, threshold: float
) -> tuple[Plan, Trace]:
    """Return what `ask` would take down, and how its traces are found.

    Writes nothing but the salt.
    """
    stones = tombstones.keyed(project)
    chosen = asked.choose_rows(project, ask, threshold)
    names = frozenset(chosen.why)
    trace = asked.trace(project, names)
    digest = files.sha256_json([stones.digest("ask", repr(ask)), at.isoformat()])[:4]
    name = f"td-{at:%Y%m%d-%H%M%S}-{digest}"
    common = {"takedown": name, "at": f"{at:%Y-%m-%d}", "reason": ask.reason}
    made = Plan(
        takedown=name,
        at=at.isoformat(),
        reason=ask.reason,
        asked={k: len(v) for k, v in asdict(ask).items() if k != "reason"},
        names=tuple(sorted(names)),
        people=ask.people,
        stones=tuple({**common, **stone} for stone in _stones(project, stones, ask, chosen)),
        counts=chosen.counts(),
        kept_near=len(chosen.kept_near),
        store_sha256=files.sha256_file(project.store) if project.store.exists() else None,
        clean_sha256=clean_set.clean_set_sha256(project),
        step=trace.step,
        short=sum(not byte_scan.is_telling(name) for name in names),
    )
    return made, trace


def _stones(
    project: Project, stones: Stones, ask: Ask, chosen: Chosen
) -> Iterator[dict[str, Any]]:
    """Yield a stone for each thing asked for, and for id, content and page of each row that
    goes.
    """
    found: set[tuple[str, str]] = {("id", name) for name in (*ask.ids, *chosen.why)}
    found |= {("source", name) for name in ask.sources}
    found |= {("domain", name) for name in ask.domains}
    for _, row in asked.everything(project) if chosen.why else ():
        if row.id in chosen.why:
            page = row.page
            found.add(("content", row.content))
            found |= {("page", page)} if page else set()
    yield from ({"kind": k, "digest": stones.digest(k, text)} for k, text in sorted(found))
    for one in ask.people:
        digest = stones.digest("person", f"{one.form} {one.key}")
        yield {"kind": "person", "digest": digest, "form": one.form, "words": one.words}


def begin_takedown(project: Project, made: Plan, trace: Trace) -> None:
    """Write the plan `made` and `trace`.

    From here on the takedown is finished, whatever happens.
    """
    import numpy as np

    folder = tombstones.governance_folder(project)
    with files.replacing(_trace_path(folder, made.takedown), 0o600) as file:
        np.save(file, trace.hashes)
    with files.replacing(_plan_path(folder, made.takedown), 0o600) as file:
        file.write(jsonio.pretty(asdict(made)).encode("utf-8"))
    _log(project, made, "planned", {"rows": len(made.names)})


def _plan_path(folder: Path, takedown: str) -> Path:
    return folder / f"{byte_scan.WORKING}{takedown}.json"


def _trace_path(folder: Path, takedown: str) -> Path:
    return folder / f"{byte_scan.WORKING}{takedown}.npy"


def _log(project: Project, made: Plan, state: str, facts: dict[str, Any]) -> None:
    with files.appending(tombstones.governance_folder(project) / JOURNAL) as file:
        files.append_row(file, {"takedown": made.takedown, "state": state, **facts})


def remove_stale_traces(project: Project) -> None:
    """Remove traces whose plan a killed takedown did not come to write, or removed already."""
    for path in tombstones.governance_folder(project).glob(f"{byte_scan.WORKING}*.npy"):
        if not path.with_suffix(".json").exists():
            path.unlink()


def unfinished(project: Project) -> list[Plan]:
    """Return the takedowns that were begun and are not at their end, the oldest first."""
    paths = sorted(tombstones.governance_folder(project).glob(f"{byte_scan.WORKING}*.json"))
    return [_read(path) for path in paths]


def _read(path: Path) -> Plan:
    return settings.build_settings(Plan, files.read_object(path), str(path))


def finish_takedown(
    project: Project, made: Plan, told: Callable[[str], object] = lambda step: None
) -> Done:
    """Return every step of the plan `made`, again or for the first time.

    `told` is called before each.
    """
    import numpy as np

    folder = tombstones.governance_folder(project)
    hashes = np.load(_trace_path(folder, made.takedown), allow_pickle=False)
    sought = Sought(Trace(hashes, made.step), frozenset(made.names), made.people)
    found: dict[str, Any] = {}
    for step in STEPS:
        told(step)
        found[step] = ACTS[step](project, made, sought)
        _log(project, made, step, {})
    done = _receipt(project, made, found)
    if not done.hits:
        _plan_path(folder, made.takedown).unlink()
        _trace_path(folder, made.takedown).unlink()
        files.sync_path(folder)
    _log(project, made, "open" if done.hits else "done", {"hits": len(done.hits)})
    return done


def _tombstones(project: Project, made: Plan, sought: Sought) -> int:
    return tombstones.add_tombstones(project, made.stones)


def _store(project: Project, made: Plan, sought: Sought) -> int:
    return erase.erase(project.store, sought.names)


def _clean(project: Project, made: Plan, sought: Sought) -> int:
    return clean_set.drop_clean_rows(project, sought.names, made.store_sha256, made.clean_sha256)


def _snapshots(project: Project, made: Plan, sought: Sought) -> list[str]:
    renamed = {}
    if made.store_sha256 and project.store.exists():
        renamed[made.store_sha256] = files.sha256_file(project.store)
    if made.clean_sha256 and (now := clean_set.clean_set_sha256(project)):
        renamed[made.clean_sha256] = now
    return withdraw.withdraw_snapshots(project, sought.names, made.note, renamed)


def _purge(project: Project, made: Plan, sought: Sought) -> dict[str, Any]:
    return asdict(purge.purge_files(project, sought))


def _taint(project: Project, made: Plan, sought: Sought) -> dict[str, list[str]]:
    """Mark every run and package that rests on a snapshot which this takedown withdrew."""
    gone = withdraw.rows_taken(project, made.takedown)
    found: dict[str, list[str]] = {"runs": [], "packages": []}
    with taint.publishing(project.models):
        for path in sorted(project.adapters.glob("*/run.json")):
            rests = state.read_state(path, state.TrainedPlan)["snapshot"]
            _mark(path.parent, rests, gone, made, found["runs"])
        for path in sorted(project.packages.glob("*/manifest.json")):
            rests = state.read_state(path, state.Package).get("lineage", {}).get("snapshot", {})
            _mark(path.parent, rests, gone, made, found["packages"])
    return found


def _mark(
    folder: Path, rests: dict[str, Any], gone: dict[str, Any], made: Plan, into: list[str]
) -> None:
    name = f"v{rests.get('version')}"
    if name in gone:
        taint.mark_tainted(folder, made.takedown, made.at, {"snapshot": name, "rows": gone[name]})
        into.append(folder.name)


def _scan(project: Project, made: Plan, sought: Sought) -> Found:
    return byte_scan.scan_tree(project, sought)


def refuse_while_written(project: Project) -> None:
    """Raise Busy while a cleaning, a split or an augmentation has read rows that are to go.

    Nothing is planned and nothing erased before it ends. Exports, trainings and promotions need
    not be waited for: they ask for taint again before they publish.
    """
    for name, what in WAITED_FOR.items():
        with files.lock(project.processed / name, f"{what} of {project.sem}"):
            pass


ACTS: dict[str, Callable[[Project, Plan, Sought], Any]] = {
    "tombstones": _tombstones,
    "store": _store,
    "clean": _clean,
    "snapshots": _snapshots,
    "purge": _purge,
    "taint": _taint,
    "scan": _scan,
}


def _receipt(project: Project, made: Plan, found: dict[str, Any]) -> Done:
    """Return the receipt of the takedown, without an id or a word of what went."""
    path = project.reports / f"takedown-{made.takedown}.json"
    serves = promotion.read_promotion(project)
    receipt = {
        "format": "takedown.v1",
        **made.note,
        "asked": made.asked,
        "rows": {"total": len(made.names), **made.counts},
        "near_duplicates_kept": made.kept_near,
        "tombstones": len(made.stones),
        "snapshots_withdrawn": withdraw.rows_taken(project, made.takedown),
        "snapshot_made": withdraw.successor(project, made.takedown),
        "runs_tainted": found["taint"]["runs"],
        "packages_tainted": found["taint"]["packages"],
        "promoted_and_tainted": _serving(serves, found["taint"]["runs"]),
        "purged": _earlier(path, found["purge"]),
        "scan": {**asdict(found["scan"]), "every_nth_shingle": made.step},
        "ids_not_looked_for_in_documents": made.short,
        "out_of_reach": list(OUT_OF_REACH),
    }
    files.write_file(path, jsonio.pretty(receipt))
    return Done(receipt, path)


def _serving(serves: dict[str, Any] | None, runs: list[str]) -> str | None:
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


def is_taken_down(project: Project, ask: Ask) -> bool:
    """Return whether everything `ask` names was taken down before."""
    stones = tombstones.load_tombstones(project)
    people = [("person", f"{one.form} {one.key}") for one in ask.people]
    named = [("id", n) for n in ask.ids] + [("source", n) for n in ask.sources]
    named += [("domain", n) for n in ask.domains] + people
    return all(stones.has(kind, text) for kind, text in named)
