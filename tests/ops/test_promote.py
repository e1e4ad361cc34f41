"""A promotion rests on a gate of this run, on the test set, by today's policy, in the ledger."""

import json

import pytest

from sem.core import files, jsonio, provenance, run, state
from sem.core.errors import SemError
from sem.eval.gate import gate_inputs, policy
from sem.ops import promote
from sem.package import parity_record as record

NOW = provenance.utc_now()


@pytest.fixture
def gated(prepared_toy):
    """The toy project and a finished run, with the writer of its gates."""
    project, target = prepared_toy
    files.write_file(target.folder / "manifest.json", "{}")
    package = project.packages / target.id
    files.write_file(package / "manifest.json", "{}")
    record.write_parity(project, target, package, [record.TargetCheck("transformers", "PASS")])

    def decide(listed: bool = True, **changes: object) -> None:
        rules = gate_inputs.policy_facts(project, policy.load_gate_policy(project))
        gate = {
            "format": "gate.v1",
            "sem": "toy",
            "run": target.id,
            "baseline": "base",
            "split": "test",
            "verdict": "PASS",
            "rests_on": {"policy": rules},
            "evidence_sha256": "e",
            **changes,
        }
        path = files.write_file(
            project.reports / target.id / "gate.json", jsonio.pretty_json(gate)
        )
        entry = {name: gate[name] for name in ("run", "split", "verdict", "evidence_sha256")}
        entry |= {"split_sha256": "s", "gate_sha256": files.sha256_file(path)}
        if listed:
            with files.open_for_append(project.reports / gate_inputs.LEDGER) as ledger:
                files.append_row(ledger, entry)

    return project, target, decide


def test_a_passed_gate_of_the_run_on_the_test_set_promotes(gated):
    project, target, decide = gated
    decide()

    assert promote.promote_tested_run(project, target.id, None, NOW) == target.id
    assert run.promoted_run_id(project) == target.id
    assert state.read_state_file(project.promoted, state.Promoted)["gate"]["verdict"] == "PASS"


@pytest.mark.parametrize("runtime", ["llamacpp", "vllm"])
def test_a_package_that_was_not_asked_where_it_will_serve_waits(gated, runtime):
    project, target, decide = gated
    decide()

    with pytest.raises(SemError, match=f"not asked in {runtime}: `fab package.parity"):
        promote.promote_tested_run(project, target.id, None, NOW, runtime)
    promote.promote_tested_run(project, target.id, "tried by hand", NOW, runtime)
    entry = state.read_state_file(project.promoted, state.Promoted)
    assert entry["parity"]["runtime"] == runtime
    assert len(entry["parity"]["faults"]) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        # Every gate.json that said PASS was believed.
        ({"run": "20200101-000000-abcd"}, "it is of the run '20200101-000000-abcd'"),
        ({"split": "val"}, "it is of the split 'val', not 'test'"),
        ({"split": "golden"}, "it is of the split 'golden'"),
        ({"sem": "shop"}, "it is of the sem 'shop'"),
        ({"rests_on": {}}, "the policy"),
        ({"rests_on": {"policy": {"sha256": "another"}}}, "the policy"),
        ({"rests_on": {"policy": None}}, "the policy"),
        ({"listed": False}, "gates.jsonl does not list it"),
        ({"verdict": "FAIL"}, "its gate says FAIL"),
        ({"verdict": "INSUFFICIENT"}, "its gate says INSUFFICIENT"),
    ],
)
def test_a_gate_that_is_not_one_of_this_run_promotes_nothing(gated, changes, why):
    project, target, decide = gated
    decide(**changes)

    with pytest.raises(SemError) as caught:
        promote.promote_tested_run(project, target.id, None, NOW)

    assert why in caught.value.message
    assert not project.promoted.exists()


def test_a_gate_that_was_edited_after_its_entry_is_not_listed(gated):
    project, target, decide = gated
    decide(verdict="FAIL")
    path = project.reports / target.id / "gate.json"
    path.write_text(path.read_text("utf-8").replace("FAIL", "PASS"), "utf-8")

    with pytest.raises(SemError, match=r"gates\.jsonl does not list it"):
        promote.promote_tested_run(project, target.id, None, NOW)


def test_a_changed_policy_asks_for_another_gate(gated):
    project, target, decide = gated
    decide()
    files.write_file(project.configs / "gate.yaml", "validity: {at_least: 0.5}\n")

    with pytest.raises(SemError, match=r"the policy \(gate\.yaml\) has changed since"):
        promote.promote_tested_run(project, target.id, None, NOW)


def test_a_reason_promotes_without_a_usable_gate_and_the_faults_are_kept(gated):
    project, target, decide = gated
    decide(split="val")

    promote.promote_tested_run(project, target.id, "the owner wants it", NOW)
    entry = json.loads(project.promoted.read_text("utf-8"))

    assert entry["gate"]["verdict"] is None
    assert entry["gate_faults"] == ["it is of the split 'val', not 'test'"]
    assert entry["reason"] == "the owner wants it"


def test_a_takedown_that_came_in_between_is_seen_before_it_serves(gated, monkeypatch):
    project, target, decide = gated
    decide()
    usual = promote.gate_faults

    def slow(*asked: object) -> list[str]:
        run.mark_tainted(target.folder, "t1", "2026-11-30", {})
        return usual(*asked)

    monkeypatch.setattr(promote, "gate_faults", slow)

    with pytest.raises(SemError, match="is tainted"):
        promote.promote_tested_run(project, target.id, None, NOW)
    assert not project.promoted.exists()
    assert run.find_run(project, target.id).is_finished
