"""The promoted run: the one that serves, and the gate that let it through."""

from datetime import datetime
from typing import Any

from sem.core import files, jsonio, run, state, taint
from sem.core.errors import SemError
from sem.core.project import Project


def promote(project: Project, run_id: str | None, reason: str | None, at: datetime) -> str:
    """Make RUN_ID the promoted run of PROJECT; without a passed gate only for a REASON."""
    target = run.find(project, run_id)
    taint.refuse(target.folder, f"run {target.id}")
    gate = project.reports / target.id / "gate.json"
    verdict = state.read_state(gate, state.Gate)["verdict"] if gate.exists() else None
    if verdict != "PASS" and not reason:
        found = f"its gate says {verdict}" if verdict else "it has no gate verdict"
        raise SemError(
            f"run {target.id} cannot be promoted: {found}",
            "run `fab eval.gate`, or say why it serves all the same with --reason",
        )
    before = read(project)
    made = {
        "format": "promoted.v1",
        "run": target.id,
        "promoted_at": at.isoformat(),
        "gate": {"verdict": verdict, "sha256": files.sha256(gate) if gate.exists() else None},
        "reason": reason,
        "before": before["run"] if before else None,
    }
    files.write(project.promoted, jsonio.pretty(made))
    return target.id


def read(project: Project) -> dict[str, Any] | None:
    """What promoted.json says; None when no run was promoted."""
    return state.read_if_there(project.promoted, state.Promoted)


def of(project: Project) -> str:
    """The id of the promoted run; SemError when there is none, or a takedown tainted it."""
    found = read(project)
    if found is None:
        raise SemError(f"{project.sem} has no promoted run", "name one with `fab ops.promote`")
    taint.refuse(project.adapters / found["run"], f"promoted run {found['run']}")
    return str(found["run"])
