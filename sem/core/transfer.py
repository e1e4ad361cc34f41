"""Copies over a line that may be cut: asked again, continued from the byte, whole or absent.

    fetch_file(source, FileFacts(size, sha256), path)

What came before a cut stays in `path.part`, beside a note of what it is a part of; the next copy
of the same content goes on behind it, in this process or in a later one.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.ssh import ConnectionCutError

# In a row, without an answer or a byte gained.
CUTS = 5
PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
# Bytes of disk that stay free.
SPARE = 1 << 26
Sleep = Callable[[float], Any]
T = TypeVar("T")


class SourceChangedError(SemError):
    """The file became another one while it was copied."""


@dataclass(frozen=True)
class FileFacts:
    """A file as its place says it is now."""

    size: int
    sha256: str


class FileSource(Protocol):
    """A file elsewhere, by the name that messages give it."""

    def __str__(self) -> str: ...

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield its bytes from `offset`, at most `length`; ConnectionCutError when it is cut."""


def retry_after_cuts(
    ask: Callable[[], T],
    sleep: Sleep = time.sleep,
    tries: int = CUTS,
    patience_s: float = 0.0,
    note: Callable[[ConnectionCutError], object] | None = None,
) -> T:
    """Return what `ask` answers, asked again after each cut of the line, which `note` is told.

    Raise the last cut after at least `tries` tries and `patience_s` seconds.
    """
    began, cuts = time.monotonic(), 0
    while True:
        try:
            return ask()
        except ConnectionCutError as cut:
            if note:
                note(cut)
            cuts += 1
            if cuts >= tries and time.monotonic() - began >= patience_s:
                raise
            _pause(sleep, cuts)


def copy_over_cuts(
    missing: Callable[[], T], copy: Callable[[T], object], sleep: Sleep = time.sleep
) -> None:
    """Call `copy` with what is `missing` until nothing is; after a cut it goes on from there.

    Raise the cut after CUTS in a row that left as much missing as before.
    """
    cuts, rest = 0, missing()
    while rest:
        cut = ConnectionCutError("the other end sent nothing", "run it again")
        try:
            copy(rest)
        except ConnectionCutError as error:
            cut = error
            _pause(sleep, cuts)
        before, rest = rest, missing()
        cuts = cuts + 1 if rest == before else 0
        if cuts >= CUTS:
            raise cut


def _pause(sleep: Sleep, cuts: int) -> None:
    sleep(min(PAUSE_S * 2**cuts, LONGEST_PAUSE_S))


def fetch_file(
    source: FileSource, facts: FileFacts, path: Path, sleep: Sleep = time.sleep
) -> None:
    """Bring `source`, of which `facts` are known, to `path`; a part of it is continued.

    Raise SourceChangedError when what came is not what `facts` say, and ConnectionCutError when
    the line stays cut: the part then waits for the next call.
    """
    if path.exists() and files.sha256_file(path) == facts.sha256:
        return
    part, note = _part(path), _note(path)
    origin = {"source": str(source), **asdict(facts)}
    if not part.exists() or not note.exists() or files.read_json(note) != origin:
        part.unlink(missing_ok=True)
        files.write_file(note, jsonio.pretty_json(origin))
    _fill(part, source, facts.size, sleep)
    if files.sha256_file(part) != facts.sha256:
        forget_part(path)
        raise SourceChangedError(f"{source} was written while it was copied", "copy it again")
    files.place_file(part, path)
    note.unlink()


def fetch_growing_file(source: FileSource, size: int, path: Path, sleep: Sleep) -> None:
    """Bring the first `size` bytes of `source`, which may grow meanwhile, to `path`."""
    forget_part(path)
    _fill(_part(path), source, size, sleep)
    files.place_file(_part(path), path)


def _fill(part: Path, source: FileSource, size: int, sleep: Sleep) -> None:
    """Bring `part` to `size` bytes of `source`, going on where it stands after every cut."""

    def copy(rest: int) -> None:
        start = file.tell()
        try:
            for block in source.blocks(start, rest):
                file.write(block)
        except FileNotFoundError as error:
            raise SourceChangedError(f"{source} is gone", "copy it again") from error
        if file.tell() == start:
            raise SourceChangedError(f"{source} became shorter", "copy it again")

    with part.open("ab") as file:
        check_room(part.parent, size - file.tell())
        copy_over_cuts(lambda: max(0, size - file.tell()), copy, sleep)


def check_room(folder: Path, size: int) -> None:
    """Raise SemError when the disk of `folder` cannot take `size` more bytes."""
    free = shutil.disk_usage(folder).free
    if size + SPARE > free:
        raise SemError(
            f"{folder}: {free:,} bytes are free, {size + SPARE:,} are needed",
            "free space, then run again",
        )


def forget_part(path: Path) -> None:
    """Remove the partial file of `path`."""
    _part(path).unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")
