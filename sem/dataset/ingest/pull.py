"""Rows of another place into the store here: a DuckDB file, a folder of chunks, or a text file.

What was fetched is verified (hash, opens, row count) and imported in one transaction. Nothing is
left of it but its rows: the copy is removed, so that an erasure finds one store and no second.
"""

import hashlib
import os
import re
import select
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sem.core import files
from sem.core.errors import SemError
from sem.core.net import ssh
from sem.core.net.ssh import (
    HASH,
    HOST,
    ConnectionCutError,
    FileFacts,
    Sleep,
    SourceChangedError,
    SshHost,
    retry_after_cuts,
)
from sem.core.project import Project
from sem.dataset.ingest import capture_feed as feed
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store

# Where rows are fetched from: a path here, or one on a host over OpenSSH's own `ssh`.
#
# Both answer the same questions: what is there, what is its hash, and its bytes from an offset.
# The far side needs a POSIX shell, `wc`, `head`, `tail` and `sha256sum` or `shasum`.

BLOCK = 1 << 18
STALL_S = 60.0
KIND = 'if [ -d "$1" ]; then echo folder; elif [ -f "$1" ]; then echo file; else echo none; fi'
FACTS = HASH + 'if [ -f "$1" ]; then wc -c <"$1"; h <"$1"; else echo none; fi'
PREFIX = HASH + 'head -c "$2" <"$1" | h'
BLOCKS = 'tail -c "+$2" <"$1" | head -c "$3"'
BESIDE = 'for f in "$1".*; do [ -e "$f" ] && printf "%s\\n" "${f##*/}"; done; :'
ZIPS = 'for f in "$1"/*.zip; do [ -f "$f" ] && [ ! -L "$f" ] && printf "%s\\n" "${f##*/}"; done; :'


@dataclass(frozen=True)
class LocalFiles:
    """Files of this machine."""

    def kind(self, path: str) -> str:
        """Return `file`, `folder` or `none`."""
        return "folder" if Path(path).is_dir() else "file" if Path(path).is_file() else "none"

    def facts(self, path: str) -> FileFacts | None:
        """Size and hash of `path` now; None when it is not there."""
        try:
            return FileFacts(Path(path).stat().st_size, _digest(self.blocks(path, 0, 1 << 62)))
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
class RemoteFiles:
    """Files of `host`, as `user@host` or a name of the user's ssh configuration."""

    host: str
    # Another ssh configuration than the user's own.
    config: str | None = None
    sleep: Sleep = time.sleep

    def kind(self, path: str) -> str:
        return self._ask(KIND, path)

    def facts(self, path: str) -> FileFacts | None:
        words = self._ask(FACTS, path).split()
        return None if words[:1] == ["none"] else FileFacts(int(words[0]), words[1])

    def prefix(self, path: str, length: int) -> str:
        return (self._ask(PREFIX, path, str(length)).split() or [""])[0]

    def beside(self, path: str) -> set[str]:
        return set(self._ask(BESIDE, path).splitlines())

    def zips(self, path: str) -> list[str]:
        return sorted(self._ask(ZIPS, path).splitlines())

    def blocks(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        """Yield the bytes of `path` from `offset`, at most `length`.

        Raise ConnectionCutError when the connection ends before them.
        """
        with self._far.open_process(BLOCKS, path, str(offset + 1), str(length)) as process:
            assert process.stdout is not None
            while select.select([process.stdout], [], [], STALL_S)[0]:
                block = os.read(process.stdout.fileno(), BLOCK)
                if not block:
                    return self._far.check_end(process)
                length -= len(block)
                if length < 0:
                    raise SemError(
                        f"{self.host}: it sent more than asked for", "look at that host"
                    )
                yield block
            raise ConnectionCutError(
                f"{self.host}: nothing came for {STALL_S:.0f} s", "run it again"
            )

    @property
    def _far(self) -> SshHost:
        return SshHost(self.host, self.config)

    def _ask(self, script: str, *words: str) -> str:
        reply = retry_after_cuts(lambda: self._far.ask(script, *words), self.sleep)
        return reply.decode("utf-8", "replace").strip()


def parse_source(
    source: str, config: str | None, sleep: Sleep = time.sleep
) -> tuple[LocalFiles | RemoteFiles, str]:
    """Return where `source` is, and its path there.

    `source` is `[user@]host:/path`, as scp reads it, or a local path.
    """
    host, colon, path = source.partition(":")
    if not colon or "/" in host or Path(source).exists():
        return LocalFiles(), source
    if not HOST.fullmatch(host) or not path or any(c in path for c in "\0\n"):
        raise SemError(f"--source {source!r} is no [user@]host:/path", "write it as scp does")
    return RemoteFiles(host, config, sleep), path


def _digest(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


# A copy of a file that somebody may be writing: complete, or none.
#
# A DuckDB file is consistent with its .wal as long as no checkpoint ran in between, so: hash the
# file, copy it, copy the .wal, hash the file again. Equal hashes and a .wal that still begins
# with what was copied give everything that was committed before the copy of the .wal began.

TRIES = 6
WAIT_S = 0.25
STORES = (".duckdb", ".db")
Place = LocalFiles | RemoteFiles


@dataclass(frozen=True)
class SourceFile:
    """One file of a place, and the name it has in messages."""

    place: Place
    path: str

    def __str__(self) -> str:
        host = f"{self.place.host}:" if isinstance(self.place, RemoteFiles) else ""
        return f"{host}{self.path}"

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        return self.place.blocks(self.path, offset, length)

    def beside(self, suffix: str) -> "SourceFile":
        return SourceFile(self.place, self.path + suffix)


def copy_source(
    source: SourceFile, folder: Path, sleep: Sleep = time.sleep, tries: int = TRIES
) -> Path:
    """Return `source`, whole, as a file in `folder` (its .wal beside it).

    SemError after `tries` changes.
    """
    for attempt in range(tries):
        if attempt:
            sleep(WAIT_S * 2**attempt)
        try:
            return _once(source, folder, sleep)
        except SourceChangedError as error:
            changed = error
    raise SemError(
        f"{source}: changed during each of {tries} copies: {changed.message}",
        "pull while its writer pauses, or pull chunks; nothing here was changed",
    ) from changed


def _once(source: SourceFile, folder: Path, sleep: Sleep) -> Path:
    is_store = source.path.endswith(STORES)
    before = source.place.facts(source.path)
    if before is None:
        raise SemError(f"{source}: no such file", "check the path in --source")
    path = folder / local_name(source.path)
    ssh.fetch_file(source, before, path, sleep)
    log = _wal(source, folder, sleep) if is_store else None
    after = source.place.facts(source.path)
    if after != before:
        raise SourceChangedError(f"{source} was written meanwhile", "copy it again")
    if is_store:
        beside = source.place.beside(source.path)
        _check_wal(source, log, beside)
    return path


def _wal(source: SourceFile, folder: Path, sleep: Sleep) -> Path | None:
    log = source.beside(".wal")
    path = folder / local_name(log.path)
    path.unlink(missing_ok=True)
    ssh.drop_partial_copy(path)
    facts = log.place.facts(log.path)
    if facts is None or not facts.size:
        return None
    # It grows while it is copied: the length counts, its beginning is compared afterwards.
    ssh.fetch_growing_file(log, facts.size, path, sleep)
    return path


def _check_wal(source: SourceFile, log: Path | None, beside: set[str]) -> None:
    name = source.path.rpartition("/")[2]
    # DuckDB keeps .wal.checkpoint and .wal.recovery while it merges.
    if any(neighbour.startswith(f"{name}.wal.") for neighbour in beside):
        raise SourceChangedError(f"{source} is being checkpointed", "copy it again")
    if log is None:
        return
    wal, size = source.beside(".wal"), log.stat().st_size
    if wal.place.prefix(wal.path, size) != files.sha256_file(log):
        raise SourceChangedError(f"{wal} was rewritten meanwhile", "copy it again")


def local_name(path: str) -> str:
    """Return the last part of `path` as a plain file name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.rstrip("/").rpartition("/")[2])[-100:].lstrip(".")
    if not name:
        raise SemError(f"--source {path!r} names no file", "write the path of a file or folder")
    return name


INCOMING = "incoming"
CHUNK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,150}\.zip", re.I)


@dataclass
class PullResult:
    """What a pull did: the imports, what was left at the source, rows that a replacement lost."""

    feed: feed.Feed
    left: Counter[str] = field(default_factory=Counter)
    lost: int = 0


def pull_source(
    project: Project,
    source: str,
    options: ImportOptions,
    at: datetime,
    config: str | None = None,
    replaces: bool = False,
    sleep: Sleep = time.sleep,
) -> PullResult:
    """Fetch `source` (`[user@]host:/path` or a path) and import it into `project`'s store.

    `replaces`: the rows of the source become the store, also when rows here are not among them.
    Raise SemError when the source cannot be had whole; a partial file waits for the next call.
    """
    place, path = parse_source(source, config, sleep)
    folder = project.store.parent / INCOMING
    importers.check_import_options(project, options)
    with files.lock_file(folder / ".pull.lock", str(folder)):
        kind = place.kind(path)
        if kind == "none":
            raise SemError(f"{source}: no such file or folder", "check the path in --source")
        if kind == "folder":
            return _chunks(
                project, SourceFile(place, path.rstrip("/")), folder, options, at, sleep
            )
        copied = copy_source(SourceFile(place, path), folder, sleep)
        if replaces:
            pulled = _replace(project, copied, options)
        else:
            pulled = PullResult(feed.import_feed(project, [copied], options, at))
            pulled.feed.check()
        _clear(folder)
        return pulled


def _chunks(
    project: Project,
    source: SourceFile,
    folder: Path,
    options: ImportOptions,
    at: datetime,
    sleep: Sleep,
) -> PullResult:
    """Import the chunks of `source` that are not in the ledger; those being written are left."""
    skip_reasons: Counter[str] = Counter()
    digests = (
        {entry["sha256"] for entry in feed.read_feed_ledger(project)}
        if project.store.exists()
        else set()
    )
    paths: list[Path] = []
    for name in source.place.zips(source.path):
        chunk = SourceFile(source.place, f"{source.path}/{name}")
        if not CHUNK_NAME.fullmatch(name):
            skip_reasons[f"not the name of a chunk: {name[:80]!r}"] += 1
            continue
        facts = chunk.place.facts(chunk.path)
        if facts is None or facts.sha256 in digests:
            skip_reasons["taken before" if facts else f"gone: {name}"] += 1
            continue
        try:
            ssh.fetch_file(chunk, facts, folder / name, sleep)
        except SourceChangedError as error:
            skip_reasons[f"being written: {error.message}"] += 1
            continue
        paths.append(folder / name)
    paths.sort(key=feed._in_order)
    feed_result = feed.import_feed(project, paths, options, at) if paths else feed.Feed()
    for item in feed_result.items:
        if not item.error:
            item.path.unlink()
    return PullResult(feed_result, skip_reasons)


def _replace(project: Project, copied: Path, options: ImportOptions) -> PullResult:
    """Return the rows of `copied` as the whole store, in one rename under the store's lock."""
    place = project.store
    fresh = copied.parent / "store.duckdb"
    fresh.unlink(missing_ok=True)
    if place.with_name(f"{place.name}.wal").exists():
        raise SemError(
            f"{place}: a writer left a .wal", "finish it first: any `fab dataset.import` does"
        )
    with files.lock_file(place.with_name(f"{place.name}.lock"), str(place)):
        result = importers.import_file(project, copied, options, into=fresh)
        lost = len(_ids(place) - _ids(fresh)) if place.exists() else 0
        files.move_into_place(fresh, place)
    # Its chunks are not in this store: the next import takes them again.
    (place.parent / feed.LEDGER).unlink(missing_ok=True)
    return PullResult(feed.Feed([feed.FeedItem(copied, "taken", result)], result.notes), lost=lost)


def _ids(path: Path) -> set[str]:
    with store.open_store(path) as opened:
        return set(opened.ids())


def _clear(folder: Path) -> None:
    """Remove what was fetched; the lock stays."""
    for path in folder.iterdir():
        if path.name != ".pull.lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
