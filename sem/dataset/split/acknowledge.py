"""A difference that a person has looked at: without that nobody trains on the newer snapshot.

`configs/SEM/acknowledged.jsonl` names both snapshots by hash, the digest of their difference, and
why it is wanted. It is compared with the snapshot that the promoted run was trained on.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import console, files, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import read_promotion
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot
from sem.dataset.split.snapshot_diff import Diff

NAME = "acknowledged.jsonl"


def acknowledgements_path(project: Project) -> Path:
    """Return where `project`'s acknowledgements are; in configs, so that they are reviewed."""
    return project.configs / NAME


def write_acknowledgement(project: Project, diff: Diff, why: str, at: datetime) -> Path:
    """Write down that `diff` is wanted, and `why`; the same twice is one line."""
    if not why.strip():
        raise SemError("--acknowledge without a reason", "say why the difference is wanted")
    entry = {
        "from": {"version": diff.before.name, "sha256": diff.before.sha256},
        "to": {"version": diff.after.name, "sha256": diff.after.sha256},
        "diff_sha256": diff.sha256,
        "reason": why.strip(),
        "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
    }
    if not any(_is_same(row, entry) for row in _rows(project)):
        with files.open_for_append(acknowledgements_path(project)) as file:
            files.append_row(file, entry)
    return acknowledgements_path(project)


def _is_same(row: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return all(row[key] == entry[key] for key in ("from", "to", "diff_sha256", "reason"))


def _rows(project: Project) -> list[state.Acknowledged]:
    ledger = acknowledgements_path(project)
    return list(state.read_state_rows(ledger, state.Acknowledged)) if ledger.exists() else []


def require_acknowledgement(project: Project, frozen: Snapshot) -> None:
    """Raise SemError unless `frozen` is the promoted run's snapshot, or their difference is
    acknowledged.

    Without a promoted run there is nothing to compare with; nor when its snapshot was withdrawn,
    which is said.
    """
    serves = read_promotion(project)
    run = project.adapters / serves["run"] / "run.json" if serves else None
    if serves is None or run is None or not run.exists():
        return
    rests = state.read_state_file(run, state.TrainedPlan)["snapshot"]
    if rests["sha256"] == frozen.sha256:
        return
    name = f"v{rests['version']}"
    entry = snapshot.read_ledger(project).get(name, {})
    if entry.get("status") == "withdrawn":
        console.print_note(
            f"{name}, which run {serves['run']} was trained on, was withdrawn: "
            f"{frozen.name} cannot be compared with it"
        )
        return
    acknowledged = ((row["from"]["sha256"], row["to"]["sha256"]) for row in _rows(project))
    if (rests["sha256"], frozen.sha256) not in acknowledged:
        call = f"fab dataset.diff {name} {frozen.name}"
        raise SemError(
            f"snapshot {frozen.name} differs from {name}, which the promoted run "
            f"{serves['run']} was trained on",
            f'look at `{call}`, then `{call} --acknowledge "why"`',
        )
