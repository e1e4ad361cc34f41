"""Is a file beside a snapshot still what its facts say, and made for that snapshot?"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot


def read_variant_facts(path: Path, frozen: Snapshot, what: str, command: str) -> dict[str, Any]:
    """Return the facts of `path`, which holds `what` of snapshot `frozen` and was made by
    `command`.

    SemError when it is not there, changed on disk, or belongs to other rows.
    """
    if not path.with_suffix(".json").exists():
        raise SemError(f"{path.name}: no {what} of {frozen.name}", f"make them with `{command}`")
    facts = state.read_state(path.with_suffix(".json"), state.Written)
    digest = files.sha256_file(path) if path.exists() else "missing"
    if digest != facts["sha256"] or facts["snapshot_sha256"] != frozen.sha256:
        raise SemError(
            f"{path.name} is {digest[:12]}…, {path.stem}.json says {facts['sha256'][:12]}…",
            f"make it again with `{command}`",
        )
    return facts


def write_facts(project: Project, frozen: Snapshot, path: Path, facts: dict[str, Any]) -> None:
    """Write the facts of `path`, made of `frozen`.

    Raise SemError when a takedown withdrew it meanwhile.

    The file then holds rows that were to go, and is removed.
    """
    try:
        snapshot.load_snapshot(project, frozen.version)
    except SemError:
        path.unlink()
        raise
    files.write_file(path.with_suffix(".json"), jsonio.pretty(facts))
