"""A parcel: files by path, size and sha256, sent as one tar stream that can be cut anywhere.

The receiver trusts the list, not the stream: a member must be a plain file of the list, its bytes
go into `.parts/SHA256` and get their name only when they have that hash. What came before a cut
stays there, and the next stream goes on behind it.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from .disk import HostRefusalError, sha256_prefix, sync_far_path

PARTS = ".parts"
# Pax header: how many bytes the receiver has.
OFFSET = "SEM.offset"
# What a cut can lose: a stream gives whole blocks or none.
BLOCK = 1 << 14
LONGEST_PART, LONGEST_PATH = 255, 1_000
SHA256 = re.compile(r"[0-9a-f]{64}")
Entry = dict[str, Any]  # path, size, sha256


def check_relative_path(path: object) -> str:
    """Return `path` when it is a plain relative path of text that cannot leave its folder."""
    good = isinstance(path, str) and path and not any(ord(c) < 32 or ord(c) == 127 for c in path)
    if good:
        parts = str(path).split("/")
        good = all(p not in ("", ".", "..", PARTS) and len(p) <= LONGEST_PART for p in parts)
    if not good or not _is_text(str(path)) or len(str(path)) > LONGEST_PATH:
        raise HostRefusalError(f"file name {str(path)[:120]!r} is not sent", "rename that file")
    return str(path)


def _is_text(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def list_entries(root: Path, paths: Iterable[str]) -> list[Entry]:
    """Return the list of `paths` below `root`.

    A link or what is not a plain file is refused by name.
    """
    entries = []
    for path in sorted(set(paths)):
        full = _plain(root, check_relative_path(path))
        size = full.stat().st_size
        entries.append({"path": path, "size": size, "sha256": sha256_prefix(full)})
    return entries


def paths_below(root: Path, *skipped: str) -> list[str]:
    """Return every path below `root` that is not a folder; names in `skipped` are not entered."""
    paths = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in skipped]
        at = Path(folder).relative_to(root)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        paths += [(at / name).as_posix() for name in (*names, *links) if name not in skipped]
    return sorted(paths)


def _plain(root: Path, path: str) -> Path:
    full = root / path
    if full.resolve() != root.resolve() / path or not full.is_file():
        raise HostRefusalError(
            f"{path!r} is a link or not a plain file", "put the file itself there"
        )
    return full


def check_entries(listed: object) -> list[Entry]:
    """Return `listed` when each entry is one.

    What came over a line is checked before it is used.
    """
    if not isinstance(listed, list):
        raise HostRefusalError("the list of files is not a list", "send it again")
    for entry in listed:
        has_keys = isinstance(entry, dict) and set(entry) == {"path", "size", "sha256"}
        if not has_keys or not isinstance(entry["size"], int) or entry["size"] < 0:
            raise HostRefusalError(
                "the list of files holds an entry that is not path, size and sha256",
                "send it again",
            )
        if not SHA256.fullmatch(str(entry["sha256"])):
            raise HostRefusalError(f"{entry['path']!r} has no sha256", "send it again")
        check_relative_path(entry["path"])
    if len({entry["path"] for entry in listed}) != len(listed):
        raise HostRefusalError("the list of files names a file twice", "send it again")
    return listed


def list_missing_pieces(folder: Path, listed: list[Entry]) -> list[tuple[Entry, int]]:
    """Return what `folder` lacks of `listed`, each with the bytes of it that are there already."""
    pieces: list[tuple[Entry, int]] = []
    offered = set()
    for entry in listed:
        path = folder / entry["path"]
        if is_entry(path, entry):
            continue
        part = folder / PARTS / entry["sha256"]
        first = entry["sha256"] not in offered and part.is_file()
        held_bytes = part.stat().st_size if first else 0
        offered.add(entry["sha256"])
        pieces.append((entry, held_bytes if held_bytes <= entry["size"] else 0))
    return pieces


def is_entry(path: Path, entry: Entry) -> bool:
    """Return whether `path` is the plain file that `entry` describes."""
    plain = path.is_file() and not path.is_symlink() and path.stat().st_size == entry["size"]
    return plain and sha256_prefix(path) == entry["sha256"]


def write_parcel(target: IO[bytes], root: Path, pieces: Iterable[tuple[Entry, int]]) -> None:
    """Write `pieces` of files below `root` to `target` as a tar stream, each from its offset."""
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for entry, offset in pieces:
            with _plain(root, entry["path"]).open("rb") as file:
                if os.fstat(file.fileno()).st_size != entry["size"]:
                    raise HostRefusalError(
                        f"{entry['path']} changed while it was sent", "run it again"
                    )
                file.seek(offset)
                info = tarfile.TarInfo(entry["path"])
                info.size = entry["size"] - offset
                info.pax_headers = {OFFSET: str(offset)}
                tar.addfile(info, file)


def unpack_stream(source: IO[bytes], folder: Path, listed: list[Entry]) -> int:
    """Take the files of the tar stream `source` into `folder`; how many got their name.

    A stream that ends early leaves what came. A member that is not in `listed`, is not a plain
    file or has a different hash is refused by name, and nothing of it stays.
    """
    by_path, count = {entry["path"]: entry for entry in listed}, 0
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for info in tar:
                entry = by_path.get(info.name)
                if entry is None or not info.isreg():
                    raise HostRefusalError(
                        f"{info.name[:120]!r} was not announced", "send it again"
                    )
                if not _take(tar.extractfile(info), info, folder, entry):
                    return count
                count += 1
    except tarfile.ReadError:
        return count  # cut in a header
    return count


def _take(data: Any, info: tarfile.TarInfo, folder: Path, entry: Entry) -> bool:
    """Return whether the member `info` came whole; it then has its name and its hash."""
    offset_text = info.pax_headers.get(OFFSET, "0")
    offset = int(offset_text) if re.fullmatch(r"\d{1,15}", offset_text) else -1
    part = folder / PARTS / entry["sha256"]
    if offset < 0 or offset + info.size != entry["size"]:
        raise HostRefusalError(
            f"{entry['path']!r} has a different size than listed", "send it again"
        )
    held_bytes = part.stat().st_size if part.is_file() else 0
    if offset > held_bytes:
        raise HostRefusalError(
            f"{entry['path']!r} starts past the end of what is here", "send it again"
        )
    with part.open("r+b" if held_bytes else "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        _copy(data, file)
        if file.tell() < entry["size"]:
            return False
    _name(part, folder, entry)
    return True


def _copy(data: Any, file: IO[bytes]) -> None:
    try:
        while block := data.read(BLOCK):
            file.write(block)
    except tarfile.ReadError:
        return  # cut: the size tells


def _name(part: Path, folder: Path, entry: Entry) -> None:
    digest = sha256_prefix(part)
    if digest != entry["sha256"]:
        part.unlink()
        raise HostRefusalError(
            f"{entry['path']} came as {digest[:12]}…, its sender's list says "
            f"{entry['sha256'][:12]}…",
            "run it again: that file is sent again",
        )
    path = folder / entry["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.resolve() != folder.resolve() / Path(entry["path"]).parent:
        raise HostRefusalError(
            f"{entry['path']!r} leads out of its folder", "remove the link there"
        )
    os.replace(part, path)


def place_files(staging: Path, target: Path, listed: list[Entry], last: str = "") -> None:
    """Move the verified files of `staging` below `target`, the one called `last` at the end.

    A new `target` appears in one step; an existing one gets file by file, each in one step.
    """
    here = {entry["path"] for entry in listed if (staging / entry["path"]).exists()}
    faults = [
        e["path"] for e in listed if e["path"] in here and not is_entry(staging / e["path"], e)
    ]
    if faults:
        (staging / faults[0]).unlink()
        raise HostRefusalError(
            f"{faults[0]} has a different hash from its sender's list", "run it again"
        )
    lost = [
        e["path"] for e in listed if e["path"] not in here and not is_entry(target / e["path"], e)
    ]
    if lost:
        raise HostRefusalError(
            f"{len(lost)} files did not arrive, first {lost[0]}", "run it again"
        )
    shutil.rmtree(staging / PARTS, ignore_errors=True)
    for folder in {staging, *(_synced(staging / path).parent for path in here)}:
        sync_far_path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.rename(staging, target)
        sync_far_path(target.parent)
        return
    for path in sorted(here, key=lambda path: (path == last, path)):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        if (target / path).parent.resolve() != target.resolve() / Path(path).parent:
            raise HostRefusalError(f"{path!r} leads out of its folder", "remove the link there")
        os.replace(staging / path, target / path)
        sync_far_path((target / path).parent)
    shutil.rmtree(staging)


def _synced(path: Path) -> Path:
    """Return `path`, whose content survives a power cut from now on."""
    sync_far_path(path)
    return path
