"""What was ever tested on is never trained on: ids that a new cut may not put into train.

They are the test rows of every earlier snapshot, the golden set, and rows a person corrected
while checking a test answer (data/SEM/golden/held.jsonl, appended to, never rewritten).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sem.core import files, state
from sem.core.project import Project
from sem.dataset.store import tombstones


def ids(project: Project) -> frozenset[str]:
    """Return every id of `project` that must stay out of train."""
    return _ids(_sources(project))


def ids_without(project: Project, version: int) -> frozenset[str]:
    """Return what `ids` would say if the test part of snapshot `version` were gone."""
    name = f"test.v{version}.jsonl"
    return _ids(path for path in _sources(project) if path.name != name)


def _ids(paths: Iterable[Path]) -> frozenset[str]:
    return frozenset(
        row["id"] for path in paths for row in state.read_state_rows(path, state.NamedRow)
    )


def hold(project: Project, names: Iterable[str], reason: str) -> None:
    """Keep the examples `names` out of train from the next cut on."""
    with files.appending(_held(project)) as file:
        for name in tombstones.living(project, names):
            files.append_row(file, {"id": name, "reason": reason})


def _sources(project: Project) -> Iterator[Path]:
    yield from sorted(project.processed.glob("test.v*.jsonl"))
    yield from (path for path in (project.golden, _held(project)) if path.exists())


def _held(project: Project) -> Path:
    return project.golden.with_name("held.jsonl")
