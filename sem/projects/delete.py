"""One project's folders, and nothing else, out of the tree; a killed delete is run again.

Each folder is renamed before it is emptied, and configs/NAME last: until then the project is
listed, and the same command goes on with what is left.
"""

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sem.core import files, projects
from sem.core.errors import SemError
from sem.core.projects import ProjectLocation

GOING = ".deleting-"
ORDER = ("models", "reports", "data", "configs")


@dataclass(frozen=True)
class FolderSize:
    """One folder that goes: how many files, and how many bytes they take."""

    folder: Path
    files: int
    bytes: int


@dataclass(frozen=True)
class DeletionListing:
    """What a delete would remove."""

    place: ProjectLocation
    shares: tuple[FolderSize, ...]
    runs: int
    packages: int
    promoted: bool
    is_current: bool

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Return the table to show before the question."""
        sizes = [(str(s.folder), f"{s.files:,} files, {s.bytes:,} bytes") for s in self.shares]
        return [
            *sizes,
            ("runs", str(self.runs)),
            ("packages", str(self.packages)),
            ("a run of it is promoted", "yes" if self.promoted else "no"),
        ]


def list_deletion(root: Path, name: str) -> DeletionListing:
    """Return what deleting `name` would remove.

    Raise SemError when a folder of it leads elsewhere.
    """
    place = ProjectLocation(projects.check_project_name(name), root)
    present = [_own(place, kind) for kind in ORDER]
    remains = [_going(place, kind) for kind in ORDER if _going(place, kind).is_dir()]
    shares = tuple(_share(folder) for folder in [*(p for p in present if p), *remains])
    if not shares:
        projects.find_place(root, name)
    models = place.folder("models")
    return DeletionListing(
        place=place,
        shares=shares,
        runs=len(list(models.glob("adapters/*/run.json"))),
        packages=len(list(models.glob("packages/*/manifest.json"))),
        promoted=(models / "promoted.json").is_file(),
        is_current=(root / projects.CURRENT).is_file() and projects.current_project(root) == name,
    )


def remove_project_folders(listing: DeletionListing) -> None:
    """Remove what `listing` lists; Busy while a job of the project holds a lock."""
    place = listing.place
    with ExitStack() as held:
        for kind in ORDER:
            folder = _own(place, kind)
            for lock in sorted(folder.rglob("*.lock")) if folder else ():
                if lock.is_file() and not lock.is_symlink():
                    held.enter_context(files.lock_file(lock, f"something of {place.name}"))
        for kind in ORDER:
            _remove(place, kind)
    projects.unset_current_project(place.root, place.name)


def _remove(place: ProjectLocation, kind: str) -> None:
    going = _going(place, kind)
    if going.is_dir() and not going.is_symlink():  # of a killed delete
        shutil.rmtree(going)
    folder = _own(place, kind)
    if folder is None:
        return
    folder.rename(going)
    files.sync_path(going.parent)
    shutil.rmtree(going)


def _going(place: ProjectLocation, kind: str) -> Path:
    return place.root / kind / f"{GOING}{place.name}"


def _own(place: ProjectLocation, kind: str) -> Path | None:
    """Return the folder `kind` of `place` where it is there.

    Raise SemError when it leads out of its parent.
    """
    folder = place.folder(kind)
    if folder.is_symlink():
        raise SemError(
            f"{folder} is a link to {os.readlink(folder)}",
            "remove the link yourself: only folders of the project are deleted",
        )
    if not folder.exists():
        return None
    if not folder.is_dir() or folder.resolve().parent != folder.parent.resolve():
        raise SemError(f"{folder} is not a folder of its own", "look at it, and move it away")
    return folder


def _share(folder: Path) -> FolderSize:
    members = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return FolderSize(folder, len(members), sum(path.lstat().st_size for path in members))
