"""Where rows are fetched from: a path here, or one on a host over OpenSSH's own `ssh`.

Both answer the same questions: what is there, what is its hash, and its bytes from an offset.
The far side needs a POSIX shell, `wc`, `head`, `tail` and `sha256sum` or `shasum`.
"""

import hashlib
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sem.core.errors import SemError
from sem.core.ssh import ALONE, HASH, HOST, Cut, Far

BLOCK = 1 << 18
STALL_S = 60.0
KIND = 'if [ -d "$1" ]; then echo folder; elif [ -f "$1" ]; then echo file; else echo none; fi'
FACTS = HASH + 'if [ -f "$1" ]; then wc -c <"$1"; h <"$1"; else echo none; fi'
PREFIX = HASH + 'head -c "$2" <"$1" | h'
BLOCKS = 'tail -c "+$2" <"$1" | head -c "$3"'
BESIDE = 'for f in "$1".*; do [ -e "$f" ] && printf "%s\\n" "${f##*/}"; done; :'
ZIPS = 'for f in "$1"/*.zip; do [ -f "$f" ] && [ ! -L "$f" ] && printf "%s\\n" "${f##*/}"; done; :'


@dataclass(frozen=True)
class Facts:
    """A file as its place says it is now."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Local:
    """Files of this machine."""

    def kind(self, path: str) -> str:
        """Return `file`, `folder` or `none`."""
        return "folder" if Path(path).is_dir() else "file" if Path(path).is_file() else "none"

    def facts(self, path: str) -> Facts | None:
        """Size and hash of `path` now; None when it is not there."""
        try:
            return Facts(Path(path).stat().st_size, _digest(self.blocks(path, 0, 1 << 62)))
        except FileNotFoundError:
            return None

    def prefix(self, path: str, length: int) -> str:
        """Return the hash of the first `length` bytes of `path`; '' when it is not there."""
        try:
            return _digest(self.blocks(path, 0, length))
        except FileNotFoundError:
            return ""

    def blocks(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        """Yield the bytes of `path` from `offset`, `length` at most."""
        with open(path, "rb") as file:
            file.seek(offset)
            while length > 0 and (block := file.read(min(BLOCK, length))):
                length -= len(block)
                yield block

    def beside(self, path: str) -> set[str]:
        """Return names that are `path`'s own with something behind it."""
        start = f"{Path(path).name}."
        return {
            entry.name for entry in Path(path).parent.iterdir() if entry.name.startswith(start)
        }

    def zips(self, path: str) -> list[str]:
        """Return the .zip files in the folder `path`."""
        entries = Path(path).glob("*.zip")
        return sorted(
            entry.name for entry in entries if entry.is_file() and not entry.is_symlink()
        )


@dataclass(frozen=True)
class Remote:
    """Files of `host`, as `user@host` or a name of the user's ssh configuration."""

    host: str
    # Another ssh configuration than the user's own.
    config: str | None = None

    def kind(self, path: str) -> str:
        return self._ask(KIND, path)

    def facts(self, path: str) -> Facts | None:
        words = self._ask(FACTS, path).split()
        return None if words[:1] == ["none"] else Facts(int(words[0]), words[1])

    def prefix(self, path: str, length: int) -> str:
        return (self._ask(PREFIX, path, str(length)).split() or [""])[0]

    def beside(self, path: str) -> set[str]:
        return set(self._ask(BESIDE, path).splitlines())

    def zips(self, path: str) -> list[str]:
        return sorted(self._ask(ZIPS, path).splitlines())

    def blocks(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        """Yield the bytes of `path` from `offset`, `length` at most.

        Cut when the line ends before them.
        """
        argv = self._far.argv(BLOCKS, path, str(offset + 1), str(length))
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **ALONE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                while select.select([process.stdout], [], [], STALL_S)[0]:
                    block = process.stdout.read1(BLOCK)
                    if not block:
                        break
                    yield block
                else:
                    raise Cut(f"{self.host}: nothing came for {STALL_S:.0f} s", "run it again")
                message = process.stderr.read().decode("utf-8", "replace")
                self._far.check(process.wait(), message)
            finally:
                process.kill()

    @property
    def _far(self) -> Far:
        return Far(self.host, self.config)

    def _ask(self, script: str, *words: str) -> str:
        return self._far.ask(script, *words).decode("utf-8", "replace").strip()


def parse_source(source: str, config: str | None) -> tuple[Local | Remote, str]:
    """Return the place and the path in `source`.

    `[user@]host:/path`, as scp reads it, or a path here.
    """
    host, colon, path = source.partition(":")
    if not colon or "/" in host or Path(source).exists():
        return Local(), source
    if not HOST.fullmatch(host) or not path or any(c in path for c in "\0\n"):
        raise SemError(f"--source {source!r} is no [user@]host:/path", "write it as scp does")
    return Remote(host, config), path


def _digest(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
