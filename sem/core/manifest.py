"""Manifest: the list of hashes that makes a folder complete. It is written last."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError

NAME = "manifest.json"


def seal_folder(folder: Path, facts: dict[str, Any] | None = None) -> Path:
    """Hash and sync every file below `folder`, then write its manifest with `facts` beside
    them.
    """
    listed = {str(path.relative_to(folder)): _entry(path) for path in _files(folder)}
    for path in _files(folder):
        files.sync_path(path)
    return files.write_file(folder / NAME, jsonio.pretty_json({**(facts or {}), "files": listed}))


def read_manifest(folder: Path, shape: Any = state.FileManifest) -> Any:
    """Return the manifest of `folder`, of the given shape (that of a run lists no files).

    Raise SemError when it has none, which means that the folder is unfinished.
    """
    path = folder / NAME
    if not path.exists():
        raise SemError(f"{folder}: no {NAME}: unfinished", "run the stage that writes it again")
    return state.read_state_file(path, shape)


def manifest_faults(folder: Path, beside: Collection[str] = ()) -> list[str]:
    """Return what differs between `folder` and its manifest, a line each.

    Empty when nothing does. `beside`: files that may lie there and are never listed.
    """
    listed = read_manifest(folder)["files"]
    names = {str(path.relative_to(folder)) for path in _files(folder)} - set(beside)
    faults = [f"{name}: missing" for name in sorted(set(listed) - names)]
    faults += [f"{name}: not in the manifest" for name in sorted(names - set(listed))]
    for name in sorted(set(listed) & names):
        entry = _entry(folder / name)
        if entry != listed[name]:
            faults.append(
                f"{name}: {entry['sha256'][:12]}…, the manifest says "
                f"{listed[name]['sha256'][:12]}…"
            )
    return faults


def matches_manifest(folder: Path) -> bool:
    """Return whether `folder` has a manifest and every file matches it."""
    try:
        return not manifest_faults(folder)
    except (SemError, OSError, KeyError, TypeError):
        return False


def _files(folder: Path) -> list[Path]:
    paths = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise SemError(
                f"{path}: a link",
                "replace it with the file itself: a sealed folder holds plain files only",
            )
        if path.is_file() and path != folder / NAME and not path.name.startswith(".tmp-"):
            paths.append(path)
    return paths


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": files.sha256_file(path)}
