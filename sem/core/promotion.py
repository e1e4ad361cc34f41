"""The promoted run: the one that serves. `ops/promote.py` decides which may."""

from typing import Any

from sem.core import state, taint
from sem.core.errors import SemError
from sem.core.project import Project


def read_promotion(project: Project) -> dict[str, Any] | None:
    """Return what promoted.json says; None when no run was promoted."""
    return state.read_if_there(project.promoted, state.Promoted)


def promoted_run_id(project: Project) -> str:
    """Return the id of the promoted run.

    Raise SemError when there is none, or a takedown tainted it.
    """
    promotion = read_promotion(project)
    if promotion is None:
        raise SemError(f"{project.sem} has no promoted run", "name one with `fab ops.promote`")
    taint.refuse_tainted(project.adapters / promotion["run"], f"promoted run {promotion['run']}")
    return str(promotion["run"])
