"""Rows of another place into the store here: a DuckDB file, a folder of chunks, or a text file.

What was fetched is verified (hash, opens, row count) and imported in one transaction. Nothing is
left of it but its rows: the copy is removed, so that an erasure finds one store and no second.
"""

import os
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.ingest import capture_feed as feed
from sem.dataset.ingest import importers, remote_copy, remote_source
from sem.dataset.ingest.importers import Options
from sem.dataset.ingest.remote_copy import Changed, Sleep, Source
from sem.dataset.store import store

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
        kind = remote_copy.patient(lambda: place.kind(path), sleep)
        if kind == "none":
            raise SemError(f"{source}: no such file or folder", "check the path in --source")
        if kind == "folder":
            return _chunks(project, Source(place, path.rstrip("/")), folder, options, at, sleep)
        copied = remote_copy.copy(Source(place, path), folder, sleep)
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
    for name in remote_copy.patient(lambda: source.place.zips(source.path), sleep):
        chunk = Source(source.place, f"{source.path}/{name}")
        if not CHUNK_NAME.fullmatch(name):
            skip_reasons[f"not the name of a chunk: {name[:80]!r}"] += 1
            continue
        facts = remote_copy.patient(lambda chunk=chunk: chunk.place.facts(chunk.path), sleep)
        if facts is None or facts.sha256 in digests:
            skip_reasons["taken before" if facts else f"gone: {name}"] += 1
            continue
        try:
            remote_copy.fetch_source(chunk, facts, folder / name, sleep)
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
