"""The capture feed: chunks of a folder, each taken once, in order, as they arrive.

A line of feed.jsonl is written after the rows of a chunk are committed. A killed import leaves
the line out; taken again, the chunk's rows are there already and nothing changes.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions, ImportResult

LEDGER = "feed.jsonl"
COLUMNS = ("file", "outcome", "read", "added", "there", "replaced", "skipped", "refused")


@dataclass(frozen=True)
class FeedItem:
    """One file of an import: `taken`, there from `before`, or `failed` with its error."""

    path: Path
    outcome: str
    result: ImportResult
    error: SemError | None = None

    def row(self) -> tuple[object, ...]:
        """Return its line in the table of COLUMNS."""
        stored = vars(self.result.stored).values() if self.result.stored else ("-",) * 4
        refused = sum(self.result.rejects.values())
        return (self.path.name, self.outcome, self.result.read, *stored, refused)


@dataclass
class Feed:
    """What an import of several files did."""

    items: list[FeedItem] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    report: Path | None = None

    def counts(self) -> Iterator[tuple[str, int]]:
        """(what, rows) over all files: of another task, then refused by reason."""
        other = sum(item.result.other_task for item in self.items)
        if other:
            yield "of another task", other
        reasons: Counter[str] = Counter()
        for item in self.items:
            reasons.update(item.result.rejects)
        yield from ((f"rejected: {reason}", count) for reason, count in sorted(reasons.items()))

    def check(self) -> None:
        """SemError that names the files which could not be imported."""
        failed = [item for item in self.items if item.error]
        if len(self.items) == 1 and failed:
            raise failed[0].error  # type: ignore[misc]
        if failed:
            summary = "; ".join(f"{i.path.name}: {i.error.message}" for i in failed[:3] if i.error)
            raise SemError(
                f"{len(failed)} of {len(self.items)} files were not imported: {summary}"[:1_000],
                "the others are imported; run the same command again when these are complete",
            )


def import_feed(
    project: Project,
    paths: Sequence[Path],
    options: ImportOptions,
    at: datetime,
    again: bool = False,
    progress: Callable[[Any, int], Any] | None = None,
    origins: Mapping[Path, str] = MappingProxyType({}),
) -> Feed:
    """Import the files and folders of chunks in `paths` that were not yet taken.

    A bad file stops nothing; Feed.check raises at the end. `again`: also what was taken before.
    `origins`: where files came from; those are taken once, as chunks are.
    """
    importers.check_import_options(project, options)
    feed = Feed(report=project.reports / importers.REJECTS)
    sources = list(expand_folders(paths, feed.notes))
    folder = project.store.parent
    with (
        files.lock_file(folder / ".feed.lock", str(folder / LEDGER)),
        files.open_atomic_file(project.reports / importers.REJECTS) as rejects,
    ):
        imported_keys = _known(project, feed, again)
        for path in progress(sources, len(sources)) if progress else sources:
            origin = origins.get(path)
            item = _import(project, path, options, imported_keys, rejects, at, origin)
            feed.items.append(item)
            feed.notes.update(item.result.notes)
    return feed


def expand_folders(paths: Iterable[Path], notes: Counter[str]) -> Iterator[Path]:
    """Yield every file of `paths`.

    A folder yields its .zip files, ordered by the times in their names.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path.iterdir(), key=_in_order)
        chunks = [entry for entry in inside if entry.suffix.lower() == ".zip" and _is_plain(entry)]
        notes.update(
            f"not a chunk: {entry.name[:80]!r}" for entry in inside if entry not in chunks
        )
        if not chunks:
            raise SemError(
                f"{path}: no chunk in this folder",
                "chunks are .zip files; for another kind, name the file itself",
            )
        yield from chunks


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _in_order(path: Path) -> tuple[Any, ...]:
    # 9 before 10, whatever the width of the numbers.
    return tuple(
        (not p.isdecimal(), int(p) if p.isdecimal() else 0, p)
        for p in re.split(r"([0-9]+)", path.name)
    )


def _known(project: Project, feed: Feed, again: bool) -> set[tuple[str, str]]:
    """(sha256, options) of every chunk that is in the store."""
    if again:
        return set()
    if not project.store.exists():
        if (project.store.parent / LEDGER).exists():
            feed.notes["the store is new: chunks taken before are taken again"] += 1
        return set()
    return {
        (entry["sha256"], jsonio.canonical_json(entry["options"]))
        for entry in read_feed_ledger(project)
    }


def read_feed_ledger(project: Project) -> list[state.FeedLine]:
    """Return the chunks taken so far, oldest first."""
    path = project.store.parent / LEDGER
    return list(state.read_state_rows(path, state.FeedLine)) if path.exists() else []


def _import(
    project: Project,
    path: Path,
    options: ImportOptions,
    imported_keys: set[tuple[str, str]],
    rejects: Any,
    at: datetime,
    origin: str | None,
) -> FeedItem:
    result = ImportResult(report=project.reports / importers.REJECTS)
    is_chunk = origin is not None or (path.suffix.lower() == ".zip" and path.is_file())
    digest = files.sha256_file(path) if is_chunk else ""
    key = (digest, jsonio.canonical_json(_remembered(options)))
    if is_chunk and key in imported_keys:
        return FeedItem(path, "before", result)
    try:
        if not importers.add_source_rows(project, path, options, result, rejects):
            raise importers.nothing_usable(project, path, result)
    except SemError as error:
        return FeedItem(path, "failed", result, error)
    # A limit takes a part; a file that changed meanwhile was another one.
    if is_chunk and options.limit is None and files.sha256_file(path) == digest:
        _remember(project, origin or path.name, digest, options, result, at)
        imported_keys.add(key)
    return FeedItem(path, "taken", result)


def _remembered(options: ImportOptions) -> dict[str, Any]:
    """Return the part of `options` that decides which rows a chunk gives, and their names."""
    return {
        name: value
        for name, value in asdict(options).items()
        if value and name not in ("limit", "on_conflict")
    }


def _remember(
    project: Project,
    name: str,
    digest: str,
    options: ImportOptions,
    result: ImportResult,
    at: datetime,
) -> None:
    stored = vars(result.stored) if result.stored else {}
    line = {
        "sha256": digest,
        "name": name,
        "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "options": _remembered(options),
        "read": result.read,
        "refused": dict(sorted(result.rejects.items())),
        **stored,
    }
    with files.open_for_append(project.store.parent / LEDGER) as file:
        files.append_row(file, line)
