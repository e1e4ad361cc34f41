"""The teacher answers golden questions; the project's own scoring decides go or no-go."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime

import handbook
import pytest
from chatserver import ChatServer

from sem.core import files
from sem.core.project import Project
from sem.eval.judge import teacher_exam as exams
from sem.forge.run import config
from sem.forge.teacher import teacher
from sem.jobs import load_jobs

AT = datetime(2026, 11, 21, tzinfo=UTC)
KNOWN = 6


def knows_some(body, number):
    """Right on the first KNOWN of ten questions; writes prose on the last one."""
    asked = int(body["messages"][1]["content"].split("number ")[1].split("?")[0])
    if asked == 9:
        return "no idea"
    return json.dumps({"answer": f"cabinet {asked}" if asked < KNOWN else "some cabinet"})


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setenv("STUB_KEY", "sk-canary-0123456789")
    with ChatServer(knows_some) as server:
        handbook.make(tmp_path, server.url, documents=1)
        made = Project.load("handbook")
        rows = [
            {"question": f"What is in number {n}?", "golden_answer": {"answer": f"cabinet {n}"}}
            for n in range(10)
        ]
        files.write_file(made.golden.with_name("golden_set.json"), json.dumps(rows))
        yield made


def test_golden_answers_are_scored_like_a_models(project):
    exam = exams.prepare_exam(project)
    asked = teacher.make_teacher(
        config.load_forge_config(project).settings.teacher, project.root, AT
    )
    result = exams.run_teacher_exam(exam, asked, 0.6)

    assert (result.right, len(result.scores), result.is_go) == (KNOWN, 10, True)
    assert result.faults == {"invalid_json": 1}
    assert result.verdict.startswith("GO: 6 of 10 right, 60.0 % (95 %: 26.2 to 87.8 %)")
    found = files.read_json(exams.write_exam(exam, result, asked.name))
    assert (found["verdict"], found["right"], found["golden"]) == ("go", 6, {"rows": 10, "of": 10})
    assert sum(found["questions"].values()) == KNOWN


@pytest.mark.parametrize(("least", "is_go"), [("0.6", True), ("0.7", False)])
def test_the_script_leaves_with_go_or_no_go(project, capsys, least, is_go):
    argv = ["--sem", "handbook", "--yes", "--set", f"forge.teacher.min_right={least}"]
    with nullcontext() if is_go else pytest.raises(SystemExit, match="1"):
        load_jobs()["forge.teacher"].call(argv)

    said = capsys.readouterr()
    assert "10 calls of openai/stub for at most $" in said.err
    assert said.out.count("\nNO-GO: 6 of 10 right") == (not is_go)
    assert "the interval holds the threshold, more golden questions would tell" in said.out
