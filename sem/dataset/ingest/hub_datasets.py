"""Files of a data set on the hub, at one commit, for the importers.

    with hub_datasets.fetched_sources(project, [Path("hf://datasets/org/name")]) as sources:
        capture_feed.import_feed(project, sources.paths, options, at, origins=sources.origins)

Rows are read by our own readers, from the kinds of files that they know: no script of a data set
is run. What was fetched lies in data/SEM/raw/incoming/ until it is imported, and no longer: rows
live in the store, where a takedown reaches them.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sem.core import files
from sem.core.errors import SemError
from sem.core.net import hub
from sem.core.net.hub import HubAddress
from sem.core.project import Project
from sem.dataset.ingest.importers import TEXTS

ENDINGS = (*(f".{kind}{packed}" for kind in TEXTS for packed in ("", ".gz")), ".parquet")


@dataclass
class FetchedSources:
    """Files to import; `origins` are the addresses, with their commits, of those of the hub."""

    paths: list[Path] = field(default_factory=list)
    origins: dict[Path, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


@contextmanager
def fetched_sources(project: Project, paths: Sequence[Path]) -> Iterator[FetchedSources]:
    """Yield `paths` with the files of the hub in place of addresses, fetched here meanwhile.

    A fetch that is cut goes on in the next start. Raise SemError for an address that names nothing
    that can be imported.
    """
    sources = FetchedSources()
    incoming = project.store.parent / "incoming"
    folders = []
    for path in paths:
        if not hub.is_address(str(path)):
            sources.paths.append(path)
            continue
        address = hub.read_address(str(path))
        if address.kind != "dataset":
            raise SemError(f"{address}: not a data set", "write hf://datasets/ORG/NAME")
        with files.lock_file(incoming / ".hub.lock", f"{incoming} of the hub"):
            folders.append(_fetch(address, incoming, sources))
    try:
        yield sources
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _fetch(address: HubAddress, incoming: Path, sources: FetchedSources) -> Path:
    """Fetch the files of `address` below `incoming`, add them to `sources`; their folder."""
    with hub.open_hub(f"fetch {address}") as api:
        pinned = hub.pin_address(api, address)
        names = _readable(pinned, hub.list_repository_files(api, pinned), sources.notes)
        slug = f"{pinned.name.replace('/', '--')}--{pinned.revision}".lower()
        folder = incoming / f"hub-{slug}"
        for name in names:
            path = hub.download_file(api, pinned, name, folder)
            sources.paths.append(path)
            sources.origins[path] = str(HubAddress("dataset", pinned.name, pinned.revision, name))
    sources.notes[f"{address} is at commit {pinned.revision}"] += 1
    return folder


def _readable(address: HubAddress, sizes: dict[str, int], notes: Counter[str]) -> list[str]:
    """Return the files that can be imported; others below the address are noted."""
    below = [
        name
        for name in sorted(sizes)
        if not address.path or name == address.path or name.startswith(f"{address.path}/")
    ]
    names = [name for name in below if name.lower().endswith(ENDINGS)]
    notes.update(f"not read: file {name[:80]!r}" for name in below if name not in names)
    if not names:
        what = "no such file" if not below else "no file of a kind that is read"
        raise SemError(
            f"{address}: {what}", f"name a data set or a file of it: {', '.join(ENDINGS)}"
        )
    return names
