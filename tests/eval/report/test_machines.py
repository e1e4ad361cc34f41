"""Answers are read anywhere: what generated them is a fact beside them, not a key to them."""

import json
import os
import subprocess
import sys

import pytest
from paths import ROOT

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import BASE
from sem.eval.answers import subject
from sem.eval.judge import judge_questions, judge_session
from sem.eval.report import compare, spotcheck
from sem.lm.local import hardware

ELSEWHERE = hardware.Hardware("cuda", "NVIDIA H200", 139.0, 16, "bfloat16")
HERE = hardware.Hardware("cpu", "a laptop", 8.0, 2, "float32")


@pytest.fixture
def answered(cut_toy, monkeypatch):
    """The toy project with the base model's answers to test, given on another machine."""
    monkeypatch.setattr(hardware, "detect_hardware", lambda: ELSEWHERE)
    monkeypatch.setattr(subject.model, "load_model", in_float32(subject.model.load_model))
    subject.answer_subject(subject.resolve_subject(cut_toy, BASE, "test", None))
    monkeypatch.setattr(hardware, "detect_hardware", lambda: HERE)
    return cut_toy


def in_float32(load):
    # No GPU is here; only what is recorded of it matters.
    return lambda folder, dtype, device: load(folder, "float32")


def test_answers_of_a_machine_with_another_dtype_are_read(answered):
    # Made on bf16, they could not be reported on a laptop without.
    found = subject.resolve_subject(answered, BASE, "test", None)

    reading = compare.read_comparison(answered, BASE, BASE, "test", None)

    assert not found.book.is_stale()
    assert len(judge_questions.read_subject_answers(found)) == len(found.examples)
    assert (reading.compared.facts["hardware"]["dtype"]) == "bfloat16"
    assert any("NVIDIA H200, bfloat16" in note for note in reading.compared.facts["notes"])
    assert judge_session.current_verdicts(found) == ({}, {})
    assert spotcheck.format_spotcheck_csv([], found)


def test_generating_again_on_another_machine_keeps_the_good_answers(answered):
    found = subject.resolve_subject(answered, BASE, "test", None)
    text, header = found.book.path.read_bytes(), found.book.recorded()

    before = subject.answer_subject(found)

    assert before == len(found.examples)
    assert (found.book.path.read_bytes(), found.book.recorded()) == (text, header)
    assert not list(found.book.path.parent.glob("answers.test.*.jsonl"))


def test_a_file_that_two_machines_answered_says_which_rows_are_whose(answered):
    found = subject.resolve_subject(answered, BASE, "test", None)
    lines = found.book.path.read_bytes().splitlines(keepends=True)
    found.book.path.write_bytes(b"".join(lines[:4]))

    assert subject.answer_subject(found) == 4

    made_on = found.book.made_on
    assert [(m["from_row"], m["dtype"], m["machine"]["name"]) for m in made_on] == [
        (0, "bfloat16", "NVIDIA H200"),
        (4, "float32", "a laptop"),
    ]
    notes = compare.read_comparison(answered, BASE, BASE, "test", None).compared.facts["notes"]
    assert any("from row 4 on" in note for note in notes)


def test_answers_of_an_older_version_are_still_read(answered):
    found = subject.resolve_subject(answered, BASE, "test", None)
    older = {k: v for k, v in found.book.recorded().items() if k != "made_on"}
    files.write_file(
        found.book.header_path, json.dumps(older | {"dtype": "bfloat16", "batch": 16})
    )

    assert found.book.made_on == [{"from_row": 0, "dtype": "bfloat16", "batch": 16}]
    assert judge_questions.read_subject_answers(found)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("snapshot", {"version": 0, "sha256": "0"}, "another snapshot"),
        ("tasks", {"price": "0"}, "another tasks"),
        ("adapter", "0" * 64, "another adapter"),
        ("base_model", "sha256:0", "another base model"),
        ("examples", "0", "another examples"),
    ],
)
def test_answers_to_something_else_say_to_what(answered, key, value, said):
    found = subject.resolve_subject(answered, BASE, "test", None)
    files.write_file(found.book.header_path, json.dumps(found.book.recorded() | {key: value}))

    with pytest.raises(SemError, match=said):
        judge_questions.read_subject_answers(found)


def test_another_renderer_is_noticed_where_the_model_is(answered, capsys):
    found = subject.resolve_subject(answered, BASE, "test", None)
    recorded = found.book.recorded() | {"renderer": "0" * 64}
    files.write_file(found.book.header_path, json.dumps(recorded))

    # A machine without the tokenizer cannot know; the one that generates can, and says it.
    assert judge_questions.read_subject_answers(found)
    assert subject.answer_subject(found) == 0
    assert "another renderer" in capsys.readouterr().err


def test_constrained_generation_says_what_the_mask_does_not_hold_to(cut_toy, capsys):
    spec = files.read_json(cut_toy.configs / "tasks" / "price.json")
    spec["io_schema"]["properties"]["tags"] = {"type": "array", "uniqueItems": True}
    files.write_file(cut_toy.configs / "tasks" / "price.json", json.dumps(spec))
    project = Project.load("toy", ["eval.decoding=constrained"])

    subject._note_unenforced(subject.resolve_subject(project, BASE, "test", None))

    assert "price: constrained decoding does not enforce all of it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "code", "last_line"),
    [
        ("eval_report.py", 0, ""),
        # Both sides are the same model, whose ten answers are all cut; nothing else fails.
        ("eval_gate.py", 1, "error: FAIL: json_valid, schema_valid"),
    ],
)
def test_report_and_gate_decide_on_such_answers_without_torch(answered, script, code, last_line):
    program = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        f"sys.argv = [{script!r}, '--sem', 'toy', '--run', 'base']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'scripts' / script)!r}, run_name='__main__')\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
        "    print('LOADED', sorted(heavy))\n"
    )
    # Not where this test runs: torch is loaded here.
    environment = {**os.environ, "SEM_ROOT": str(answered.root)}

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )

    assert "LOADED []" in done.stdout, done.stderr[-2000:]
    assert done.returncode == code
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert errors == [last_line] * code


def test_a_project_without_its_base_model_is_still_reported(answered, tmp_path):
    # A laptop holds the answers and the snapshot, not the weights.
    spec = files.read_json(answered.configs / "tasks" / "price.json")
    gone = tmp_path / "not here"
    path = answered.configs / "tasks" / "price.json"
    found = subject.resolve_subject(answered, BASE, "test", None)
    files.write_file(path, json.dumps(spec | {"base_model_id": str(gone)}))
    elsewhere = subject.resolve_subject(Project.load("toy"), BASE, "test", None)
    tasks = {name: task.fingerprint() for name, task in elsewhere.tasks.items()}
    files.write_file(found.book.header_path, json.dumps(found.book.recorded() | {"tasks": tasks}))

    assert judge_questions.read_subject_answers(elsewhere)
