"""Taint: runs and packages whose data were taken down; nobody may promote, package or serve them.

`tainted.json` lies beside the manifest of a run or package, so that it travels with a copy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError

NAME = "tainted.json"
PUBLISH_WAIT_S = 30.0


@contextmanager
def publishing(models: Path) -> Iterator[None]:
    """Hold the moment in which something of the sem in `models` is marked, or becomes public.

    Whoever publishes (a package, a promotion, a finished run) asks `refuse` again inside, so that
    a takedown that began meanwhile either is seen or sees what was published.
    """
    with files.lock(models / ".publish.lock", f"a result of {models.name}", PUBLISH_WAIT_S):
        yield


def mark_tainted(folder: Path, takedown: str, at: str, facts: dict[str, Any]) -> None:
    """Mark the run or package in `folder`; an earlier takedown's mark stays and is added to."""
    marks = [m for m in read_taints(folder) if m["takedown"] != takedown]
    document = {
        "format": "tainted.v1",
        "marks": [*marks, {"takedown": takedown, "at": at, **facts}],
    }
    files.write_file(folder / NAME, jsonio.pretty(document))


def read_taints(folder: Path) -> list[dict[str, Any]]:
    """Return the marks of `folder`, the oldest first; empty when it is clean."""
    path = folder / NAME
    return state.read_state(path, state.Tainted)["marks"] if path.exists() else []


def takedowns(folder: Path | None) -> tuple[str, ...]:
    """Return the takedowns that marked `folder`; `base` has no folder and is never marked."""
    return tuple(m["takedown"] for m in read_taints(folder)) if folder else ()


def refuse_tainted(folder: Path | None, what: str) -> None:
    """Raise SemError when `folder` is marked; `what` names it, as in `run 2026…`."""
    names = takedowns(folder)
    if names:
        raise SemError(
            f"{what} is tainted: takedown {', '.join(names)} removed rows it rests on",
            "train a new run on a snapshot cut after it: `fab train.prepare train.run`",
        )
