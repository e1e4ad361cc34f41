"""Documents into a project's raw folder: known kinds, whole or not at all, nothing overwritten."""

import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sem.core import files
from sem.core.errors import SemError
from sem.core.projects import ProjectLocation
from sem.forge.kinds import image, table
from sem.forge.sources import documents as texts

KINDS = tuple(dict.fromkeys((*texts.KINDS, *table.KINDS, *image.KINDS)))
# bytes; file systems end at 255, and temporary names are longer.
MAX_NAME = 200


@dataclass(frozen=True)
class AddedFile:
    """What became of one file: `state` is added, replaced, or same (its bytes are there)."""

    name: str  # below the raw folder
    bytes: int
    state: str


def copy_documents(
    place: ProjectLocation, paths: Sequence[Path], replace: bool = False
) -> list[AddedFile]:
    """Copy the files of `paths`, and those in its folders, to the raw folder of `place`.

    Everything is looked at before anything is copied: SemError names the first file that cannot
    be taken, and then nothing was.
    """
    if place.raw.is_symlink() or place.folder("data").is_symlink():
        raise SemError(f"{place.raw} is a link", "replace it with a folder: a project has its own")
    source_by_name: dict[str, Path] = {}
    for path in paths:
        for name, source in _found(path):
            if name in source_by_name:
                raise SemError(
                    f"{source} and {source_by_name[name]} have the same name", "rename one of them"
                )
            source_by_name[name] = source
    plans = [_plan(place, name, source, replace) for name, source in source_by_name.items()]
    return [
        _copy(place, source, plan)
        for source, plan in zip(source_by_name.values(), plans, strict=True)
    ]


def list_raw_documents(raw: Path) -> list[Path]:
    """Return the files below `raw` that a forge reads, by name.

    Never a link, a hidden file or a store.
    """
    if raw.is_symlink() or not raw.is_dir():
        return []
    candidates = (path for path in raw.rglob("*") if path.suffix.lower() in KINDS)
    return sorted(
        path
        for path in candidates
        if _is_plain(path)
        and not _is_hidden(path, raw)
        and not str(path.relative_to(raw)).startswith(texts.NOT_SOURCES)
    )


def count_skipped_files(paths: Sequence[Path]) -> Counter[str]:
    """Return how many files in the folders of `paths` are not taken, by what they are."""
    counts: Counter[str] = Counter()
    for folder in (path for path in paths if path.is_dir()):
        usable_files = set(list_raw_documents(folder))
        for path in folder.rglob("*"):
            if path not in usable_files and (path.is_symlink() or not path.is_dir()):
                counts[_kind(path, folder)] += 1
    return counts


def _kind(path: Path, folder: Path) -> str:
    if path.is_symlink():
        return "link"
    return "hidden" if _is_hidden(path, folder) else path.suffix.lower() or "without a suffix"


def _is_hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _is_plain(path: Path) -> bool:
    return not path.is_symlink() and path.is_file()


def _found(path: Path) -> Iterable[tuple[str, Path]]:
    """(name below the raw folder, file) of `path`, a file or a folder of them."""
    if path.is_symlink():
        raise SemError(f"{path} is a link", "name the file that it points to")
    if path.is_dir():
        inside = list_raw_documents(path)
        if not inside:
            raise SemError(f"{path}: holds no file of a known kind", f"known: {' '.join(KINDS)}")
        return [(f"{path.resolve().name}/{p.relative_to(path).as_posix()}", p) for p in inside]
    return [(path.name, path)]


def _plan(place: ProjectLocation, name: str, source: Path, replace: bool) -> AddedFile:
    _check_name(name, source)
    if not source.is_file():
        raise SemError(f"{source}: no such file", "check the path")
    target, size = place.raw / name, source.stat().st_size
    linked = next((p for p in target.parents if p.is_symlink() and place.raw in p.parents), None)
    if linked is not None:
        raise SemError(f"{linked} is a link", "remove it: documents lie in folders of the project")
    if not target.exists() and not target.is_symlink():
        return AddedFile(name, size, "added")
    if target.is_symlink() or not target.is_file():
        raise SemError(f"{target} exists and is not a plain file", "move it away")
    if files.sha256_file(source) == files.sha256_file(target):
        return AddedFile(name, size, "same")
    if not replace:
        raise SemError(
            f"{target} already exists with different content",
            "add --replace, or rename the new one",
        )
    return AddedFile(name, size, "replaced")


def _check_name(name: str, source: Path) -> None:
    kind = Path(name).suffix.lower()
    if kind not in KINDS:
        raise SemError(f"{source}: no forge reads {kind or 'it'!r}", f"known: {' '.join(KINDS)}")
    if name.startswith(texts.NOT_SOURCES):
        raise SemError(f"{source}: {name!r} is a file of the project itself", "rename yours")
    for part in name.split("/"):
        # A hidden file is not a source; a control character would steer whoever lists the folder.
        odd = not part.isprintable() or part.startswith((".", "-")) or part.strip() != part
        if odd or "\\" in part or len(os.fsencode(part)) > MAX_NAME:
            raise SemError(
                f"{source}: {part!r} is not a usable file name",
                f"rename it: printable, at most {MAX_NAME} bytes, no dot, dash or space in front",
            )


def _copy(place: ProjectLocation, source: Path, plan: AddedFile) -> AddedFile:
    if plan.state == "same":
        return plan
    with _opened(source) as content, files.open_atomic_file(place.raw / plan.name) as copy:
        shutil.copyfileobj(content, copy, 1 << 20)
    return plan


def _opened(source: Path) -> IO[bytes]:
    # O_NOFOLLOW and fstat: what was looked at may have become a link or a pipe since.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SemError(f"{source} is not a plain file", "name a plain file")
    return os.fdopen(descriptor, "rb")
