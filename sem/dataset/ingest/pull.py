"""Rows of another place into the store here: a DuckDB file, a folder of chunks, or a text file.

What was fetched is verified (hash, opens, row count) and imported in one transaction. Nothing is
left of it but its rows: the copy is removed, so that an erasure finds one store and no second.
"""

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.ssh import Cut
from sem.dataset.ingest import capture_feed as feed
from sem.dataset.ingest import importers, remote_source
from sem.dataset.ingest.importers import Options
from sem.dataset.ingest.remote_source import Facts, Local, Remote
from sem.dataset.store import store

# A copy of a file that somebody may be writing: complete, or none.
#
# A DuckDB file is consistent with its .wal as long as no checkpoint ran in between, so: hash the
# file, copy it, copy the .wal, hash the file again. Equal hashes and a .wal that still begins
# with what was copied give everything that was committed before the copy of the .wal began.

TRIES = 6
# In a row, without a byte gained.
CUTS = 5
WAIT_S = 0.25
STORES = (".duckdb", ".db")
# Bytes of disk that stay free.
SPARE = 1 << 26
Place = Local | Remote
Sleep = Callable[[float], Any]


class Changed(SemError):
    """The file became another one while it was copied."""


@dataclass(frozen=True)
class Source:
    """One file of a place, and the name it has in messages."""

    place: Place
    path: str

    def __str__(self) -> str:
        host = f"{self.place.host}:" if isinstance(self.place, Remote) else ""
        return f"{host}{self.path}"

    def beside(self, suffix: str) -> "Source":
        return Source(self.place, self.path + suffix)


def copy(source: Source, folder: Path, sleep: Sleep = time.sleep, tries: int = TRIES) -> Path:
    """Return `source`, whole, as a file in `folder` (its .wal beside it).

    SemError after `tries` changes.
    """
    for attempt in range(tries):
        if attempt:
            sleep(WAIT_S * 2**attempt)
        try:
            return _once(source, folder, sleep)
        except Changed as error:
            changed = error
    raise SemError(
        f"{source}: changed during each of {tries} copies: {changed.message}",
        "pull when its writer pauses, or pull chunks; nothing here was changed",
    ) from changed


def patient(ask: Callable[[], Any], sleep: Sleep) -> Any:
    """Return what `ask` answers, after CUTS cuts of the line at most; then Cut."""
    for cuts in range(1, CUTS):
        try:
            return ask()
        except Cut:
            sleep(WAIT_S * 2**cuts)
    return ask()


def _once(source: Source, folder: Path, sleep: Sleep) -> Path:
    is_store = source.path.endswith(STORES)
    before = patient(lambda: source.place.facts(source.path), sleep)
    if before is None:
        raise SemError(f"{source}: no such file", "check the path in --source")
    path = folder / local_name(source.path)
    fetch_source(source, before, path, sleep)
    log = _wal(source, folder, sleep) if is_store else None
    after = patient(lambda: source.place.facts(source.path), sleep)
    if after != before:
        raise Changed(f"{source} was written meanwhile", "copy it again")
    if is_store:
        beside = patient(lambda: source.place.beside(source.path), sleep)
        _check_wal(source, log, beside, sleep)
    return path


def _wal(source: Source, folder: Path, sleep: Sleep) -> Path | None:
    log = source.beside(".wal")
    path = folder / local_name(log.path)
    path.unlink(missing_ok=True)
    _forget(path)
    facts = patient(lambda: log.place.facts(log.path), sleep)
    if facts is None or not facts.size:
        return None
    # It grows while it is copied: the length counts, its beginning is compared afterwards.
    part = path.with_name(f"{path.name}.part")
    _fill(log, facts, part, sleep)
    part.rename(path)
    return path


def _check_wal(source: Source, log: Path | None, beside: set[str], sleep: Sleep) -> None:
    name = source.path.rpartition("/")[2]
    # DuckDB keeps .wal.checkpoint and .wal.recovery while it merges.
    if any(neighbour.startswith(f"{name}.wal.") for neighbour in beside):
        raise Changed(f"{source} is being checkpointed", "copy it again")
    if log is None:
        return
    wal, size = source.beside(".wal"), log.stat().st_size
    if patient(lambda: wal.place.prefix(wal.path, size), sleep) != files.sha256_file(log):
        raise Changed(f"{wal} was rewritten meanwhile", "copy it again")


def fetch_source(source: Source, facts: Facts, path: Path, sleep: Sleep = time.sleep) -> None:
    """`source`, of which `facts` are known, as `path`.

    A partial file of the same hash is continued.

    Changed when what came is not what `facts` say; Cut when the line stays cut, and the partial
    file then waits for the next call.
    """
    if path.exists() and files.sha256_file(path) == facts.sha256:
        return
    part = path.with_name(f"{path.name}.part")
    note, state = _note(path), {"source": str(source), "size": facts.size, "sha256": facts.sha256}
    if not part.exists() or not note.exists() or files.read_json(note) != state:
        part.unlink(missing_ok=True)
        files.write_file(note, jsonio.pretty(state))
    _fill(source, facts, part, sleep)
    if files.sha256_file(part) != facts.sha256:
        _forget(path)
        raise Changed(f"{source} was written while it was copied", "copy it again")
    part.replace(path)
    files.sync_path(path.parent)
    note.unlink()


def _fill(source: Source, facts: Facts, part: Path, sleep: Sleep) -> None:
    """Bring `part` to its size, going on where it stands after every cut."""
    cuts = 0
    with part.open("ab") as file:
        _check_room(part, facts.size - file.tell())
        while (start := file.tell()) < facts.size:
            try:
                for block in source.place.blocks(source.path, start, facts.size - start):
                    file.write(block)
            except Cut:
                cuts = cuts + 1 if file.tell() == start else 0
                if cuts >= CUTS:
                    raise
                sleep(WAIT_S * 2**cuts)
                continue
            except FileNotFoundError as error:
                raise Changed(f"{source} is gone", "copy it again") from error
            if file.tell() == start:
                raise Changed(f"{source} became shorter", "copy it again")


def _check_room(part: Path, size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if size + SPARE > free:
        raise SemError(
            f"{part.parent}: {free:,} bytes are free, {size + SPARE:,} are needed",
            "free space, then run again",
        )


def _forget(path: Path) -> None:
    """Remove the partial file of `path`."""
    path.with_name(f"{path.name}.part").unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")


def local_name(path: str) -> str:
    """Return the last part of `path` as a plain file name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.rstrip("/").rpartition("/")[2])[-100:].lstrip(".")
    if not name:
        raise SemError(f"--source {path!r} names no file", "write the path of a file or folder")
    return name


INCOMING = "incoming"
CHUNK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,150}\.zip", re.I)


@dataclass
class Pulled:
    """What a pull did: the imports, what was left at the source, rows that a replacement lost."""

    feed: feed.Feed
    left: Counter[str] = field(default_factory=Counter)
    lost: int = 0


def pull_source(
    project: Project,
    source: str,
    options: Options,
    at: datetime,
    config: str | None = None,
    replaces: bool = False,
    sleep: Sleep = time.sleep,
) -> Pulled:
    """Fetch `source` (`[user@]host:/path` or a path) and import it into `project`'s store.

    `replaces`: the rows of the source become the store, also when rows here are not among them.
    SemError when the source cannot be had whole; a partial file waits for the next call.
    """
    place, path = remote_source.parse_source(source, config)
    folder = project.store.parent / INCOMING
    importers.check_import_options(project, options)
    with files.lock(folder / ".pull.lock", str(folder)):
        kind = patient(lambda: place.kind(path), sleep)
        if kind == "none":
            raise SemError(f"{source}: no such file or folder", "check the path in --source")
        if kind == "folder":
            return _chunks(project, Source(place, path.rstrip("/")), folder, options, at, sleep)
        copied = copy(Source(place, path), folder, sleep)
        if replaces:
            pulled = _replace(project, copied, options)
        else:
            pulled = Pulled(feed.import_feed(project, [copied], options, at))
            pulled.feed.check()
        _clear(folder)
        return pulled


def _chunks(
    project: Project, source: Source, folder: Path, options: Options, at: datetime, sleep: Sleep
) -> Pulled:
    """Import the chunks of `source` that are not in the ledger; those being written are left."""
    skip_reasons: Counter[str] = Counter()
    digests = (
        {entry["sha256"] for entry in feed.read_feed_ledger(project)}
        if project.store.exists()
        else set()
    )
    paths: list[Path] = []
    for name in patient(lambda: source.place.zips(source.path), sleep):
        chunk = Source(source.place, f"{source.path}/{name}")
        if not CHUNK_NAME.fullmatch(name):
            skip_reasons[f"not the name of a chunk: {name[:80]!r}"] += 1
            continue
        facts = patient(lambda chunk=chunk: chunk.place.facts(chunk.path), sleep)
        if facts is None or facts.sha256 in digests:
            skip_reasons["taken before" if facts else f"gone: {name}"] += 1
            continue
        try:
            fetch_source(chunk, facts, folder / name, sleep)
        except Changed as error:
            skip_reasons[f"being written: {error.message}"] += 1
            continue
        paths.append(folder / name)
    paths.sort(key=feed._in_order)
    feed_result = feed.import_feed(project, paths, options, at) if paths else feed.Feed()
    for item in feed_result.items:
        if not item.error:
            item.path.unlink()
    return Pulled(feed_result, skip_reasons)


def _replace(project: Project, copied: Path, options: Options) -> Pulled:
    """Return the rows of `copied` as the whole store, in one rename under the store's lock."""
    place = project.store
    fresh = copied.parent / "store.duckdb"
    fresh.unlink(missing_ok=True)
    if place.with_name(f"{place.name}.wal").exists():
        raise SemError(
            f"{place}: a writer left a .wal", "finish it first: any `fab dataset.import` does"
        )
    with files.lock(place.with_name(f"{place.name}.lock"), str(place)):
        result = importers.import_file(project, copied, options, into=fresh)
        lost = len(_ids(place) - _ids(fresh)) if place.exists() else 0
        os.replace(fresh, place)
        files.sync_path(place.parent)
    # Its chunks are not in this store: the next import takes them again.
    (place.parent / feed.LEDGER).unlink(missing_ok=True)
    return Pulled(feed.Feed([feed.Item(copied, "taken", result)], result.notes), lost=lost)


def _ids(path: Path) -> set[str]:
    with store.reading(path) as opened:
        return set(opened.ids())


def _clear(folder: Path) -> None:
    """Remove what was fetched; the lock stays."""
    for path in folder.iterdir():
        if path.name != ".pull.lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
