"""Snapshots without rows that were taken down: a successor, and no content of the old ones.

The successor has the parts of the newest snapshot, every other row's line byte for byte. Then the
ledger says `withdrawn`, and the parts go; of vN.json only counts and hashes stay. Each step can be
repeated: a killed takedown goes on from what the ledger and the folder say.
"""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, state
from sem.core.errors import SemError
from sem.core.example import from_json
from sem.core.project import Project
from sem.dataset.clean import clean_set
from sem.dataset.config import Dataset, Split
from sem.dataset.split import certificate, snapshot, splits

WITHDRAWN = "withdrawn"
# Of vN.json: numbers and hashes.
STUB = ("version", "inputs", "rows", "sha256", "groups")


@dataclass(frozen=True)
class RemainingRow:
    """What a snapshot's facts need to know of one row."""

    item: splits.SplitItem
    task: str
    stratum: str
    domain: str


def find_affected_snapshots(project: Project, names: Set[str]) -> dict[int, dict[str, int]]:
    """Return the snapshots that hold rows `names`, and how many in each part."""
    counts_by_version = {}
    for version in snapshot.snapshot_versions(project):
        paths = {part: _part(project, part, version) for part in splits.PARTS}
        counts = {
            part: _count(path, names) if path.exists() else 0 for part, path in paths.items()
        }
        if sum(counts.values()):
            counts_by_version[version] = counts
    return counts_by_version


def _count(path: Path, names: Set[str]) -> int:
    return sum(row["id"] in names for row in state.read_state_rows(path, state.NamedRow))


def _part(project: Project, part: str, version: int) -> Path:
    return project.processed / f"{part}.v{version}.jsonl"


def withdraw_snapshots(
    project: Project, names: Set[str], note: dict[str, str], renamed: Mapping[str, str]
) -> list[str]:
    """Withdraw every snapshot that holds rows `names`, a successor first; all withdrawn by `note`.

    `note`: takedown, at (ISO), reason. `renamed`: from the hashes of clean.jsonl and of the store,
    before they lost their rows, to those they have now.
    """
    at = datetime.fromisoformat(note["at"])
    with files.lock_file(project.processed / ".snapshot.lock", f"the snapshots of {project.sem}"):
        snapshot.recover_freeze(project, at)
        affected = find_affected_snapshots(project, names)
        newest = max(snapshot.snapshot_versions(project), default=None)
        if newest in affected:
            _succeed(project, newest, names, note, renamed)
        for version, counts in sorted(affected.items()):
            _hold_tested(project, version, names)
            _enter(project, version, counts, note)
        withdrawn = withdrawn_by(project, note["takedown"])
        for name in withdrawn:
            _strip(project, int(name.removeprefix("v")))
    return withdrawn


def withdrawn_by(project: Project, takedown: str) -> list[str]:
    """Return the snapshots that `takedown` withdrew, in order."""
    entries = snapshot.read_ledger(project)
    names = [name for name, entry in entries.items() if entry.get("takedown") == takedown]
    return sorted(names, key=lambda name: int(name.removeprefix("v")))


def rows_taken(project: Project, takedown: str) -> dict[str, dict[str, int]]:
    """For each snapshot that `takedown` withdrew how many rows of each part it took."""
    entries = snapshot.read_ledger(project)
    return {name: dict(entries[name]["taken_down"]) for name in withdrawn_by(project, takedown)}


def successor_snapshot(project: Project, takedown: str) -> str | None:
    """Return the snapshot that `takedown` made, None when none was needed."""
    for version in snapshot.snapshot_versions(project):
        path = project.processed / f"v{version}.json"
        facts = state.read_if_there(path, state.SnapshotFacts)
        made_by = facts.get("made_by") if facts else None
        if made_by and made_by["takedown"] == takedown:
            return f"v{version}"
    return None


def _succeed(
    project: Project,
    old: int,
    names: Set[str],
    note: dict[str, str],
    renamed: Mapping[str, str],
) -> None:
    try:
        facts = snapshot.load_snapshot(project, old).facts
    except SemError as error:  # its content goes all the same
        console.print_note(f"{error.message}: it gets no successor")
        return
    version = (snapshot.latest_version(project) or 0) + 1
    paths = {part: _part(project, part, version) for part in splits.PARTS}
    temporary = {part: path.with_name(f".tmp-{path.name}") for part, path in paths.items()}
    options = project.settings("dataset", Dataset).split
    whole = {part: _part(project, part, old) for part in splits.PARTS}
    near = clean_set.find_new_cluster_heads(whole.values(), names)
    rows = {p: _copy(whole[p], temporary[p], names, options, near) for p in splits.PARTS}
    if not any(rows.values()):
        for path in temporary.values():
            path.unlink()
        # Nothing is left to freeze.
        return
    for part, path in paths.items():
        snapshot.publish_part(temporary[part], path)
    fresh = {
        **_facts(project, facts, paths, rows),
        "version": version,
        "inputs": {k: _renamed(v, renamed) for k, v in facts["inputs"].items()},
        "made_by": {"takedown": note["takedown"], "from": f"v{old}"},
    }
    snapshot.write_new(project.processed / f"v{version}.json", jsonio.pretty_json(fresh).encode())
    snapshot.enter_in_ledger(project, version, fresh, datetime.fromisoformat(note["at"]))


def _renamed(value: Any, renamed: Mapping[str, str]) -> Any:
    return renamed.get(value, value) if isinstance(value, str) else value


def _facts(
    project: Project,
    old: dict[str, Any],
    paths: dict[str, Path],
    parts: dict[str, list[RemainingRow]],
) -> dict[str, Any]:
    """Return the facts of the parts in `paths`, counted anew.

    What cannot change is as in `old`.
    """
    cut = {part: splits.group_items(row.item for row in rows) for part, rows in parts.items()}
    counts = {
        key: {
            part: dict(sorted(Counter(getattr(row, name) for row in rows).items()))
            for part, rows in parts.items()
        }
        for key, name in (("tasks", "task"), ("strata", "stratum"), ("domains", "domain"))
    }
    facts = {
        **old,
        **counts,
        "rows": {part: len(rows) for part, rows in parts.items()},
        "sha256": {part: files.sha256_file(path) for part, path in paths.items()},
        "groups": {part: len(groups) for part, groups in cut.items()},
        "held_groups": min(old["held_groups"], len(cut["test"])),
        "shared": snapshot.count_shared_keys(paths, {p: {g.name for g in cut[p]} for p in cut}),
    }
    if "quality" in old:
        facts["quality"] = splits.split_quality(cut, project.split)
    if "certificate" in old:
        threshold = old["inputs"]["near_threshold"]
        facts["certificate"] = certificate.certify_leakage(paths, threshold, project.processed)
    return facts


def _copy(
    old: Path, new: Path, names: Set[str], options: Split, near: dict[str, str]
) -> list[RemainingRow]:
    """Return the lines of `old` whose rows are not `names`, written to `new` as they are."""
    rows = []
    with old.open("rb") as lines, files.open_atomic_file(new) as file:
        for number, line in enumerate(lines, 1):
            row = jsonio.parse_json(line.decode("utf-8"))
            example = from_json(row, f"{old}:{number}")
            if example.id not in names:
                file.write(clean_set.relink_cluster(row, line, near))
                rows.append(
                    RemainingRow(
                        splits.make_split_item(example, options),
                        example.task,
                        example.stratum,
                        example.domain,
                    )
                )
    return rows


def _hold_tested(project: Project, version: int, names: Set[str]) -> None:
    """Rows tested on in `version` stay out of train when its test part is gone."""
    path = _part(project, "test", version)
    if path.exists():
        excluded = names | snapshot.ids_without(project, version)
        tested = (row["id"] for row in state.read_state_rows(path, state.NamedRow))
        ids = [name for name in tested if name not in excluded]
        snapshot.hold_out_examples(project, ids, f"tested in v{version}, withdrawn")


def _enter(project: Project, version: int, counts: dict[str, int], note: dict[str, Any]) -> None:
    entries = snapshot.read_ledger(project)
    fields = {"status": WITHDRAWN, "withdrawn_at": note["at"], "taken_down": counts}
    entry = {**entries[f"v{version}"], **fields, **{k: note[k] for k in ("takedown", "reason")}}
    snapshot.write_ledger(project, {**entries, f"v{version}": entry})


def _strip(project: Project, version: int) -> None:
    # Variants and pairs made from the snapshot are named after it and go with it.
    for path in sorted(project.processed.glob(f"*.v{version}.json*")):
        path.unlink()
    path = project.processed / f"v{version}.json"
    facts = files.read_object(path) if path.exists() else {}
    if facts and WITHDRAWN not in facts:
        stub = {key: facts[key] for key in STUB if key in facts}
        files.write_file(path, jsonio.pretty_json({**stub, WITHDRAWN: True}))
    files.sync_path(project.processed)
