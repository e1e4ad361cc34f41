"""Name the run that serves: on a gate that passed on the test set, or for a reason.

    promote.promote_tested_run(project, "20261130-081907-ab12", reason=None, at=now)

gate.json is a file like any other, and whoever can write it could promote. So it counts only when
it is of this run, of the test set, decided by today's policy, and stands in the ledger of gates. A
passed gate is of the run; that its package answers alike where it will serve, parity.json shows.
"""

from datetime import datetime

from sem.core import files, run, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.eval.gate import gate_inputs, policy
from sem.ops import promotion_history
from sem.package import parity_record as record

# Golden questions are too few, and val has chosen the run.
SPLIT = "test"


def promote_tested_run(
    project: Project,
    run_id: str | None,
    reason: str | None,
    at: datetime,
    runtime: str = "transformers",
) -> str:
    """Make a run the promoted one and return its id; without a usable PASS only for a reason.

    A PASS of its gate, and of its package in the `runtime` that will serve.
    """
    target = run.find_run(project, run_id)
    run.refuse_tainted(target.folder, f"run {target.id}")
    path = project.reports / target.id / "gate.json"
    gate = state.read_if_there(path, state.Gate)
    faults = [] if gate is None else gate_faults(project, target, gate)
    verdict = gate["verdict"] if gate and not faults else None
    if verdict != "PASS" and not reason:
        raise SemError(
            f"run {target.id} cannot be promoted: {_obstacle(gate, faults)}",
            "run `fab eval.gate`, or promote it anyway with a --reason",
        )
    unlike = record.find_parity_faults(project, target, runtime)
    if unlike and not reason:
        raise SemError(
            f"run {target.id} cannot be promoted to serve in {runtime}: {unlike[0]}",
            "show that its package answers as was proven, or promote it anyway with a --reason",
        )
    entry = {
        "format": "promoted.v1",
        "run": target.id,
        "promoted_at": at.isoformat(),
        "gate": {"verdict": verdict, "sha256": files.sha256_file(path) if gate else None},
        "gate_faults": faults,
        "parity": {"runtime": runtime, "faults": unlike},
        "reason": reason,
    }
    with run.hold_publish_lock(project.models):
        # A takedown may have come in between.
        run.refuse_tainted(target.folder, f"run {target.id}")
        promotion_history.record_promotion(project, entry)
    return run.promoted_run_id(project)


def _obstacle(gate: state.Gate | None, faults: list[str]) -> str:
    if gate is None:
        return "it has no gate verdict"
    if faults:
        return f"its gate does not count: {faults[0]}"
    return f"its gate says {gate['verdict']}"


def gate_faults(project: Project, target: Run, gate: state.Gate) -> list[str]:
    """Return why `gate` does not decide on `target`, a clause each; empty when it does."""
    faults = []
    for name, expected in (("sem", project.sem), ("run", target.id), ("split", SPLIT)):
        if gate.get(name) != expected:
            faults.append(f"it is of the {name} {gate.get(name)!r}, not {expected!r}")
    rules = gate_inputs.policy_facts(project, policy.load_gate_policy(project))
    decided_by = gate.get("rests_on", {}).get("policy")
    if not isinstance(decided_by, dict) or decided_by.get("sha256") != rules["sha256"]:
        faults.append("the policy (gate.yaml) has changed since")
    digest = files.sha256_file(project.reports / target.id / "gate.json")
    ledger = project.reports / gate_inputs.LEDGER
    entries = list(state.read_state_rows(ledger, state.GateEntry)) if ledger.exists() else []
    matches = [entry for entry in entries if entry["gate_sha256"] == digest]
    if not matches or matches[-1]["run"] != target.id or matches[-1]["verdict"] != gate["verdict"]:
        faults.append(f"{gate_inputs.LEDGER} does not list it")
    return faults
