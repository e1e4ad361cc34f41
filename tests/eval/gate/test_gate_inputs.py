"""The gate on a real project: what it reads, writes and remembers, and the script's exits."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import warm
from paths import ROOT
from toy import make_store, rows

from sem.core import files, jsonio, manifest, provenance, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.eval.answers import answers, subject
from sem.eval.gate import gate_inputs
from sem.jobs import run_job

AT = provenance.utc_now()
POLICY = """min_domains: 5
critical: {margin_points: 10}
validity: {at_least: 0.9}
worn: {after: 2}
"""


@pytest.fixture
def project(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project with 40 shops, a snapshot, a run that is right and a base that is not."""
    # Made once, then copied.
    once = tmp_path_factory.getbasetemp() / "gate-project"
    if not once.exists():
        build(toy)
        shutil.copytree(toy, once)
    shutil.copytree(once, toy, dirs_exist_ok=True)
    return Project.load("toy")


def build(toy: Path) -> None:
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot
    from sem.lm.local import chat
    from sem.lm.weights import pinned_base, weights

    files.write_file(toy / "configs/toy/gate.yaml", POLICY)
    store = toy / "data/toy/raw/dataset.duckdb"
    store.unlink()
    make_store(store, shops=40)
    made = Project.load("toy")
    clean.clean_store(made)
    frozen, _ = snapshot.freeze_snapshot(made, AT)
    base = weights.resolve_weights(made.base_model_id, made.root)
    plan = {
        "tasks": {name: spec.as_json() for name, spec in made.tasks.items()},
        "snapshot": {"version": frozen.version, "sha256": frozen.sha256},
        "base_model": pinned_base.describe_base(made.base_model_id, base),
        "renderer": chat.load_chat(base.folder).fingerprint(),
    }
    trained = run.create_run(made, plan, AT)
    files.write_file(trained.adapter / "adapter_model.safetensors", b"weights")
    manifest.seal_folder(trained.folder)
    answer(made, trained.id, lambda n, wanted: wanted)
    answer(made, "base", lambda n, wanted: {**wanted, "title": "?"} if n % 2 else wanted)


def answer(made: Project, run_id: str, say, split: str = "test") -> None:
    """Write the answers `say`(number, reference) of `run_id` to `split`."""
    found = subject.resolve_subject(made, run_id, split, None)
    found.book.open()
    with files.open_atomic_file(found.book.path) as file:
        for n, one in enumerate(found.examples):
            text = jsonio.canonical_json(say(n, one.output_json))
            row = answers.Answer(one.id, one.task, text, "stop", 10, 5, 20, 4)
            files.append_row(file, vars(row))


def test_a_terminal_shows_the_sentence_once(project: Project, capsys, monkeypatch) -> None:
    # The verdict stood on stdout, and below it again as the error.
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    code, out, err = script(capsys, "--set", "gate.validity.at_least=0.99")

    assert (code, "\n".join([*out, err]).count("INSUFFICIENT: json_valid; ")) == (3, 1)


def asked(made: Project, **other) -> gate_inputs.GateRequest:
    return gate_inputs.GateRequest(
        **(
            {"project": made, "run_id": None, "baseline": "base", "split": "test", "version": None}
            | other
        )
    )


def script(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, list[str], str]:
    """Exit code, lines of stdout and stderr of scripts/eval_gate.py `words`, in this process."""
    with pytest.raises(SystemExit) as end:
        run_job("eval.gate", ["--sem", "toy", *words])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out.splitlines(), said.err


def test_exits_0_1_and_3_with_one_line_and_a_file(project: Project, capsys) -> None:
    code, out, err = script(capsys)
    trained = run.find_run(project, None).id
    path = project.reports / trained / "gate.json"
    assert (code, err) == (0, "")
    assert out[-2].startswith("PASS: ")
    assert Path(out[-1]) == path
    said = files.read_json(path)
    assert (said["verdict"], said["format"], said["run"]) == ("PASS", "gate.v1", trained)
    code, out, err = script(capsys, "--set", "gate.validity.at_least=0.99")
    assert (code, out[-2][:26]) == (3, "INSUFFICIENT: json_valid; ")
    assert "add the rows or domains" in err
    tested = files.read_json(project.processed / "v1.json")["rows"]["test"]
    assert files.read_json(path)["more_rows"] == 299 - tested
    answer(project, trained, lambda n, wanted: {"title": "?", "price": 0})
    code, out, err = script(capsys)
    assert (code, err.startswith("error: FAIL: ")) == (1, True)
    assert "critical price.title" in out[-2]
    assert [row["verdict"] for row in rows(project.reports / "gates.jsonl")] == [
        *("PASS", "INSUFFICIENT", "FAIL")
    ]


def test_the_script_runs_as_a_user_runs_it(project: Project) -> None:
    command = [sys.executable, str(ROOT / "scripts/eval_gate.py"), "--sem=toy", "--split=tset"]
    done = warm.run(command, capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        "error: split 'tset' is not evaluated",
    )


def test_the_verdict_names_the_hash_of_everything_it_rests_on(project: Project) -> None:
    case = gate_inputs.decide_request(asked(project))
    rests = case.rests_on
    trained = project.reports / case.run_id
    assert rests["answers"] == {
        "run": files.sha256_file(trained / "answers.test.jsonl"),
        "baseline": files.sha256_file(project.reports / "base" / "answers.test.jsonl"),
        "strong": None,
    }
    test = project.processed / "test.v1.jsonl"
    assert rests["split"] == {"name": "test", "sha256": files.sha256_file(test)}
    assert case.split_sha256 == files.sha256_file(test)
    assert rests["tasks"] == {"price": project.tasks["price"].fingerprint()}
    assert rests["policy"]["file"] == "configs/toy/gate.yaml"
    assert rests["policy"]["values"]["min_domains"] == 5
    assert rests["snapshot"]["version"] == 1
    assert set(rests) >= {"settings", "scores", "package", "judge_slots", "code", "answered"}
    files.write_file(trained / "scores.json", "{}")
    again = gate_inputs.decide_request(asked(project))
    assert again.rests_on["scores"] == files.sha256_file(trained / "scores.json")
    # Written anew, the evidence is the same.
    assert again.sha256 == case.sha256


def test_the_same_gate_again_wears_nothing_and_another_does(project: Project) -> None:
    def gate(*overrides: str) -> tuple[str, str]:
        request = asked(Project.load("toy", overrides))
        case = gate_inputs.decide_request(request)
        gate_inputs.write_gate(request, case, AT)
        found = next(check for check in case.verdict.checks if check.name == "test set")
        return found.verdict, found.found

    assert gate() == gate() == ("PASS", "gate 1")
    assert gate("gate.power=0.7") == ("PASS", "gate 2")
    assert gate("gate.power=0.6") == ("WARN", "gate 3")
    assert gate("gate.worn.then=fail") == ("FAIL", "gate 4")
    ledger = rows(project.reports / "gates.jsonl")
    assert len(ledger) == 5
    path = project.reports / ledger[0]["run"] / "gate.json"
    assert ledger[-1]["gate_sha256"] == files.sha256_file(path)


def test_a_withdrawn_snapshot_fails_without_being_read(project: Project, capsys) -> None:
    text = files.read_text(project.ledger)
    files.write_file(project.ledger, text.replace('"frozen"', '"withdrawn"'))
    code, out, _ = script(capsys)
    assert (code, out[-2]) == (1, "FAIL: takedown")
    said = files.read_json(Path(out[-1]))
    assert said["rests_on"]["withdrawn"] == ["v1"]
    assert said["checks"][0]["found"] == "withdrawn: v1"
    assert gate_inputs.list_withdrawn_snapshots(asked(project, run_id="base", version=1)) == (
        "v1",
    )
    assert gate_inputs.list_withdrawn_snapshots(asked(project, run_id="base")) == ()
    with pytest.raises(SemError, match="no snapshot"):
        gate_inputs.decide_request(asked(Project.load("toy", ["gate.takedown=off"])))


def test_a_run_without_answers_is_told_what_to_do(project: Project) -> None:
    shutil.rmtree(project.reports / "base")
    with pytest.raises(SemError, match="fab eval.generate --run base"):
        gate_inputs.decide_request(asked(project))
    assert not (project.reports / "gates.jsonl").exists()


def named(made: Project, name: str, *overrides: str):
    case = gate_inputs.decide_request(asked(Project.load("toy", overrides)))
    return next(check for check in case.verdict.checks if check.name == name)


def test_a_package_of_another_adapter_is_no_proof(project: Project) -> None:
    trained = run.find_run(project, None)
    needed = "gate.parity=required"
    assert named(project, "package", needed).found == "none"
    folder = project.packages / trained.id
    files.write_file(folder / "adapter.bin", b"x")
    manifest.seal_folder(folder, {"lineage": {"adapter": "0" * 64}})
    assert named(project, "package", needed).found == "made from another adapter"
    right = files.sha256_file(trained.adapter / "adapter_model.safetensors")
    manifest.seal_folder(folder, {"lineage": {"adapter": right}})
    assert named(project, "package", needed).verdict == "PASS"
    files.write_file(folder / "adapter.bin", b"y")
    assert "adapter.bin" in named(project, "package", needed).found


def test_the_strong_model_counts_where_a_human_wrote_the_reference(project: Project) -> None:
    assert "no reference is marked independent" in named(project, "against strong").why
    human = [
        {**row, "meta": {**row["meta"], "reference_source": "human"}}
        for row in rows(project.processed / "val.v1.jsonl")
    ]
    files.write_rows(project.golden, human)
    for name in ("base", run.find_run(project, None).id):
        answer(project, name, lambda n, wanted: wanted, "golden")
    request = asked(project, split="golden")
    assert "no answers of the strong model" in [
        c.why for c in gate_inputs.decide_request(request).verdict.checks
    ]
    base = project.reports / "base" / "answers.golden.jsonl"
    files.write_file(project.reports / "strong" / "answers.golden.jsonl", base.read_bytes())
    case = gate_inputs.decide_request(request)
    found = [c.facts["pairs"] for c in case.verdict.checks if c.name.startswith("against strong")]
    assert found == [len(human)]
    assert case.rests_on["answers"]["strong"] == case.rests_on["answers"]["baseline"]
    assert case.split_sha256 == files.sha256_file(project.golden)
