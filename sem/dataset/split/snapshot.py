"""Snapshots: frozen train, val and test as vN, proven disjoint, listed in the ledger.

Parts are written first, then vN.json, then the ledger entry. A killed freeze leaves parts
without vN.json, which the next one removes, or vN.json without entry, which it adds.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, settings, state
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.example import Example, from_json
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.config import Dataset, Split
from sem.dataset.split import certificate, splits
from sem.dataset.split.certificate import count_shared_keys
from sem.dataset.store import spec_archive, tombstones

# What was ever tested on is never trained on: ids that a new cut may not put into train.
#
# They are the test rows of every earlier snapshot, the golden set, and rows a person corrected
# while checking a test answer (data/SEM/golden/held.jsonl, appended to, never rewritten).


def list_held_out_ids(project: Project) -> frozenset[str]:
    """Return every id of `project` that must stay out of train."""
    return _ids(_sources(project))


def ids_without(project: Project, version: int) -> frozenset[str]:
    """Return what `ids` would say if the test part of snapshot `version` were gone."""
    name = f"test.v{version}.jsonl"
    return _ids(path for path in _sources(project) if path.name != name)


def _ids(paths: Iterable[Path]) -> frozenset[str]:
    return frozenset(
        row["id"] for path in paths for row in state.read_state_rows(path, state.NamedRow)
    )


def hold_out_examples(project: Project, names: Iterable[str], reason: str) -> None:
    """Keep the examples `names` out of train from the next cut on."""
    with files.open_for_append(_held(project)) as file:
        for name in tombstones.filter_remaining_ids(project, names):
            files.append_row(file, {"id": name, "reason": reason})


def _sources(project: Project) -> Iterator[Path]:
    yield from sorted(project.processed.glob("test.v*.jsonl"))
    yield from (path for path in (project.golden, _held(project)) if path.exists())


def _held(project: Project) -> Path:
    return project.golden.with_name("held.jsonl")


VERSION = re.compile(r"v?([1-9][0-9]{0,5})")
SCHEMA_VERSION = "1"
# What a split writes beside its results, under the lock of the snapshots.
TEMPORARY = (".tmp-train.v*", ".tmp-val.v*", ".tmp-test.v*", ".tmp-v[0-9]*", ".tmp-certificate*")


@dataclass(frozen=True)
class Snapshot:
    """One frozen version; its files matched their hashes when it was loaded."""

    version: int
    folder: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        return f"v{self.version}"

    @property
    def sha256(self) -> str:
        """Hash over everything that is in vN.json."""
        return files.sha256_json(self.facts)

    @property
    def counts(self) -> dict[str, int]:
        """Return rows of each part."""
        return dict(self.facts["rows"])

    def path(self, part: str) -> Path:
        """Return the file of `part`."""
        if part not in splits.PARTS:
            raise SemError(
                f"a snapshot has no part {part!r}", suggest_nearest_name(part, splits.PARTS)
            )
        return self.folder / f"{part}.{self.name}.jsonl"

    def examples(self, part: str) -> Iterator[Example]:
        """Yield the examples of `part`, in order of id."""
        path = self.path(part)
        for number, row in enumerate(files.read_rows(path), 1):
            yield from_json(row, f"{path}:{number}")


def freeze_snapshot(project: Project, at: datetime) -> tuple[Snapshot, bool]:
    """Return the next snapshot of the cleaned rows, and whether it is new.

    An equal one is not made.
    """
    options = project.settings("dataset", Dataset).split
    with files.lock_file(project.processed / ".snapshot.lock", f"the snapshots of {project.sem}"):
        source = clean.read_clean_facts(project)
        recover_freeze(project, at)
        inputs = _inputs(project, source, options)
        last = latest_version(project)
        same = _same(project, last, inputs)
        if same is not None:
            return same, False
        items = (splits.make_split_item(e, options) for e in clean.read_clean_examples(project))
        cut = splits.cut_splits(items, project.split, list_held_out_ids(project))
        version = (last or 0) + 1
        facts = _write_parts(project, version, cut, inputs, options)
        # Beside the inputs: a set that was cleaned before settings were noted is the same cut.
        facts["cleaned_with"] = source.get("settings")
        write_new(project.processed / f"v{version}.json", jsonio.pretty_json(facts).encode())
        enter_in_ledger(project, version, facts, at)
        return load_snapshot(project, version), True


def _same(project: Project, last: int | None, inputs: dict[str, Any]) -> Snapshot | None:
    """Snapshot `last` when it is whole and was cut from the same `inputs`."""
    if last not in snapshot_versions(project):
        return None
    try:
        previous = load_snapshot(project, last)
    except SemError as error:  # a ledger from git without its data, or a damaged part
        console.print_note(f"{error.message}: cutting v{(last or 0) + 1}")
        return None
    return previous if previous.facts["inputs"] == inputs else None


def _inputs(project: Project, source: Mapping[str, Any], options: Split) -> dict[str, Any]:
    """Return everything the cut is a function of."""
    return {
        "schema_version": SCHEMA_VERSION,
        "clean_sha256": source["sha256"],
        "store_sha256": source["store_sha256"],
        "cleaner": source["cleaner"],
        "tasks": source["tasks"],
        "group_by": options.group_by,
        "stratify": list(options.stratify),
        "leaks": vars(options.enforced),
        "near_threshold": source["near"]["threshold"],
        "eval_split": vars(project.split),
    }


def _write_parts(
    project: Project, version: int, cut: splits.Cut, inputs: dict[str, Any], options: Split
) -> dict[str, Any]:
    part_of = {name: part for part in cut for group in cut[part] for name in group.ids}
    paths = {part: project.processed / f"{part}.v{version}.jsonl" for part in splits.PARTS}
    temporary = {part: path.with_name(f".tmp-{path.name}") for part, path in paths.items()}
    opened = {part: path.open("wb") for part, path in temporary.items()}
    domains: dict[str, Counter[str]] = {part: Counter() for part in splits.PARTS}
    strata: dict[str, Counter[str]] = {part: Counter() for part in splits.PARTS}
    tasks: dict[str, Counter[str]] = {part: Counter() for part in splits.PARTS}
    try:
        for example in clean.read_clean_examples(project):
            part = part_of[example.id]
            opened[part].write((jsonio.canonical_json(example.as_json()) + "\n").encode("utf-8"))
            domains[part][example.domain] += 1
            strata[part][example.stratum] += 1
            tasks[part][example.task] += 1
    finally:
        for file in opened.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
    certified = certificate.certify_leakage(temporary, inputs["near_threshold"], project.processed)
    try:
        certificate.enforce_certificate(certified, options.enforced)
    except SemError:
        for path in temporary.values():
            path.unlink()
        raise
    for part, path in paths.items():
        publish_part(temporary[part], path)
    return {
        "version": version,
        "inputs": inputs,
        "rows": {part: sum(tasks[part].values()) for part in splits.PARTS},
        "sha256": {part: files.sha256_file(paths[part]) for part in splits.PARTS},
        "groups": {part: len(cut[part]) for part in splits.PARTS},
        "held_groups": sum(group.is_held for group in cut["test"]),
        "tasks": {part: dict(sorted(tasks[part].items())) for part in splits.PARTS},
        "strata": {part: dict(sorted(strata[part].items())) for part in splits.PARTS},
        "domains": {part: dict(sorted(domains[part].items())) for part in splits.PARTS},
        "quality": splits.split_quality(cut, project.split),
        "certificate": certified,
        "shared": count_shared_keys(paths, {p: {g.name for g in cut[p]} for p in cut}),
    }


def snapshot_doubts(facts: dict[str, Any]) -> list[str]:
    """Return what the parts of a snapshot cannot show, a sentence each; empty when nothing.

    A domain that all rows share makes one group of them, and rows without a domain are each their
    own: either way the number of rows says little about how many shops were seen.
    """
    doubts = []
    for part in splits.PARTS:
        rows, groups = facts["rows"][part], facts["groups"][part]
        if groups == 1 and rows > 1:
            doubts.append(
                f"all {rows} rows of {part} are one group: they are not independent examples; see "
                "split.group_by in dataset.yaml and the metadata key domain"
            )
        without = facts["domains"][part].get("", 0)
        if without:
            doubts.append(
                f"{without} of {rows} rows of {part} have no domain: each document, or each row, "
                "counts as one of its own"
            )
    return doubts


def publish_part(temporary: Path, path: Path) -> None:
    """Give `temporary` its name, read-only; an existing file of that name is never replaced."""
    if path.exists():
        raise SemError(f"{path} already exists", "move it away, then run again")
    os.chmod(temporary, 0o444)
    # Under the lock of this project's snapshots.
    files.move_into_place(temporary, path)


def write_new(path: Path, content: bytes) -> None:
    """Write `content` as the read-only file `path`, which must not be there."""
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish_part(temporary, path)


def recover_freeze(project: Project, at: datetime) -> None:
    """Finish or remove what a killed freeze left."""
    files.remove_temporary_files(project.processed, TEMPORARY)
    listed = read_ledger(project)
    for path in sorted(project.processed.glob("*.v*.jsonl")):
        match = re.fullmatch(r"(?:train|val|test)\.v([0-9]+)\.jsonl", path.name)
        if match is None or f"v{match[1]}" in listed:
            continue
        facts_path = project.processed / f"v{match[1]}.json"
        facts = (
            state.read_state_file(facts_path, state.SnapshotFacts) if facts_path.exists() else None
        )
        if facts and not _faults(project.processed, facts):
            enter_in_ledger(project, int(match[1]), facts, at)
            listed = read_ledger(project)
        else:
            path.unlink()
            facts_path.unlink(missing_ok=True)


def _faults(folder: Path, facts: Mapping[str, Any]) -> list[str]:
    faults = []
    for part, sha256 in facts["sha256"].items():
        path = folder / f"{part}.v{facts['version']}.jsonl"
        digest = files.sha256_file(path) if path.exists() else "missing"
        if digest != sha256:
            faults.append(f"{path.name} is {digest[:12]}…, the ledger says {sha256[:12]}…")
    return faults


def read_ledger(project: Project) -> dict[str, Any]:
    """configs/SEM/datasets.yaml; empty when nothing is frozen yet."""
    if not project.ledger.exists():
        return {}
    value = settings.read_yaml(project.ledger) or {}
    snapshots = value.get("snapshots") if isinstance(value, dict) else None
    if not isinstance(snapshots, dict):
        raise SemError(f"{project.ledger}: no key 'snapshots'", "restore the file from git")
    for name, entry in snapshots.items():
        if not VERSION.fullmatch(str(name)):
            raise SemError(
                f"{project.ledger}: {name!r} is not a version", state.REMEDIES[state.LedgerEntry]
            )
        state.check_state(entry, _shape_of(entry), f"{project.ledger}: {name}")
    return snapshots


def _shape_of(entry: Any) -> Any:
    is_frozen = isinstance(entry, dict) and entry.get("status") != "withdrawn"
    return state.FrozenEntry if is_frozen else state.LedgerEntry


def snapshot_versions(project: Project) -> list[int]:
    """Return the versions in the ledger that are not withdrawn, in order."""
    return sorted(
        int(name.removeprefix("v"))
        for name, entry in read_ledger(project).items()
        if entry.get("status") != "withdrawn"
    )


def latest_version(project: Project) -> int | None:
    """Return the newest version, withdrawn ones included, so that no number is used twice."""
    return max((int(name.removeprefix("v")) for name in read_ledger(project)), default=None)


def load_snapshot(project: Project, version: int | str | None = None) -> Snapshot:
    """Return the snapshot `version` (3, '3', 'v3'; default: the newest), verified against the
    ledger.
    """
    versions = snapshot_versions(project)
    if not versions:
        raise SemError(f"{project.sem}: no snapshot", "cut one with `fab dataset.split`")
    number = versions[-1] if version is None else _number(version)
    by = read_ledger(project).get(f"v{number}", {}).get("takedown")
    if by:
        raise SemError(
            f"snapshot v{number} was withdrawn by takedown {by}", f"the newest is v{versions[-1]}"
        )
    if number not in versions:
        names = [f"v{n}" for n in versions]
        raise SemError(
            f"{project.sem}: no snapshot v{number}", suggest_nearest_name(f"v{number}", names)
        )
    entry = read_ledger(project)[f"v{number}"]
    path = project.processed / f"v{number}.json"
    faults = _faults(project.processed, {"version": number, "sha256": entry["sha256"]})
    digest = files.sha256_file(path) if path.exists() else "missing"
    if digest != entry["facts_sha256"]:
        faults.append(
            f"{path.name} is {digest[:12]}…, the ledger says {entry['facts_sha256'][:12]}…"
        )
    if faults:
        raise SemError(
            f"snapshot v{number} changed on disk: {faults[0]}",
            "restore it, or cut a new one with `fab dataset.split`",
        )
    facts: Any = state.read_state_file(path, state.SnapshotFacts)
    return Snapshot(number, project.processed, facts)


def _number(version: int | str) -> int:
    match = VERSION.fullmatch(str(version))
    if match is None:
        raise SemError(f"snapshot {version!r} is not a version", "write it as 3 or v3")
    return int(match[1])


def enter_in_ledger(
    project: Project, version: int, facts: Mapping[str, Any], at: datetime
) -> None:
    """List `version` with its `facts` in the ledger; keep the TaskSpecs it was cut for."""
    spec_archive.archive_specs(project)
    entry = {
        "status": "frozen",
        "frozen_at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "rows": facts["rows"],
        "groups": facts["groups"],
        "sha256": facts["sha256"],
        "facts_sha256": files.sha256_file(project.processed / f"v{version}.json"),
        **facts["inputs"],
    }
    write_ledger(project, {**read_ledger(project), f"v{version}": entry})


def write_ledger(project: Project, entries: dict[str, Any]) -> None:
    """Replace the ledger by `entries`, from `vN` to what is known of it."""
    head = "# Snapshots, written by `fab dataset.split`; restore from git, never edit.\n"
    files.write_file(project.ledger, head + "\n".join(_yaml({"snapshots": entries})) + "\n")


def _yaml(value: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield `value`, nested mappings of plain values, as YAML lines.

    JSON scalars are YAML scalars.
    """
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield f"{indent}{key}:"
            yield from _yaml(inner, indent + "  ")
        else:
            yield f"{indent}{key}: {jsonio.canonical_json(inner)}"
