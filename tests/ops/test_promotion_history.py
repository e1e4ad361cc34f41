"""Each promotion is in the history, also of a killed start, and a rollback goes the way back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from sem.core import files, jsonio, provenance, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.ops import promote, promotion_history
from sem.ops.promotion_history import history_path, read_history, roll_back

NOW = provenance.utc_now()
RUNS = ("20260101-000000-aaaa", "20260102-000000-bbbb", "20260103-000000-cccc")


@pytest.fixture
def project(toy):
    """A project with three finished runs."""
    for name in RUNS:
        folder = toy / "models" / "toy" / "adapters" / name
        files.write_file(folder / "run.json", "{}")
        files.write_file(folder / "manifest.json", "{}")
    return Project.load("toy")


def promote_runs(project: Project, *names: str) -> None:
    for name in names:
        promote.promote_tested_run(project, name, f"reason of {name[-4:]}", NOW)


def served(project: Project) -> list[str]:
    return [entry["run"] for entry in read_history(project)]


def test_every_promotion_is_written_down_with_who_when_and_why(project):
    promote_runs(project, *RUNS[:2])

    entries = read_history(project)
    assert [entry["run"] for entry in entries] == list(RUNS[:2])
    assert entries[1]["before"] == RUNS[0]
    assert entries[1]["reason"] == "reason of bbbb"
    assert entries[1]["promoted_at"] == NOW.isoformat()
    assert "@" in entries[1]["by"]
    assert json.loads(project.promoted.read_text("utf-8")) == entries[1]


def test_a_rollback_goes_to_the_run_before_and_further_back_the_next_time(project):
    promote_runs(project, *RUNS)

    assert roll_back(project, None, "wrong prices", NOW) == RUNS[1]
    assert run.promoted_run_id(project) == RUNS[1]
    # Not to the run that was taken back.
    assert roll_back(project, None, "still wrong", NOW) == RUNS[0]
    with pytest.raises(SemError, match=f"no run served before {RUNS[0]}"):
        roll_back(project, None, "and again", NOW)
    assert served(project) == [*RUNS, RUNS[1], RUNS[0]]
    assert read_history(project)[-1]["reason"] == "still wrong"


def test_a_rollback_to_a_named_run_and_a_promotion_after_it(project):
    promote_runs(project, *RUNS)

    assert roll_back(project, RUNS[0], "the first knew more", NOW) == RUNS[0]
    promote_runs(project, RUNS[2])
    assert roll_back(project, None, "no", NOW) == RUNS[0]
    # One that was taken back may serve again when a person names it.
    assert roll_back(project, RUNS[1], "yes", NOW) == RUNS[1]


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("20200101-000000-abcd", "never served: a rollback asks no gate"),
        (RUNS[2], "never served"),
        (RUNS[1], "is the promoted one"),
        ("../../etc", "never served"),
    ],
)
def test_a_run_that_a_rollback_cannot_go_to_is_named(project, to, words):
    promote_runs(project, *RUNS[:2])

    with pytest.raises(SemError, match=words):
        roll_back(project, to, "why", NOW)
    assert run.promoted_run_id(project) == RUNS[1]


def test_nothing_to_go_back_to_is_one_clear_line(project):
    with pytest.raises(SemError, match="no run was ever promoted"):
        roll_back(project, None, "why", NOW)


def test_a_tainted_run_and_one_that_is_gone_do_not_serve_again(project):
    promote_runs(project, *RUNS)
    run.mark_tainted(project.adapters / RUNS[1], "t1", "2026-11-30", {})
    with pytest.raises(SemError, match=f"run {RUNS[1]} is tainted"):
        roll_back(project, None, "why", NOW)
    (project.adapters / RUNS[0] / "run.json").unlink()
    (project.adapters / RUNS[0] / "manifest.json").unlink()
    (project.adapters / RUNS[0]).rmdir()
    with pytest.raises(SemError, match="is no longer in"):
        roll_back(project, RUNS[0], "why", NOW)

    assert served(project) == list(RUNS)


def test_a_tainted_run_can_be_rolled_back_from(project):
    promote_runs(project, *RUNS[:2])
    run.mark_tainted(project.adapters / RUNS[1], "t1", "2026-11-30", {})

    assert roll_back(project, None, "taken down", NOW) == RUNS[0]


KILLED = """
import os, signal, sys
from sem.core import files, provenance
from sem.core.project import Project
from sem.ops import promote
usual, count = files.append_row, [0]
def append(file, item):
    if sys.argv[2] == "torn":
        file.write(b'{"run": "torn'); file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
files.append_row = append
promote.promote_tested_run(Project.load("toy"), sys.argv[1], "killed", provenance.utc_now())
"""


@pytest.mark.parametrize("how", ["between", "torn"])
def test_a_kill_between_the_two_writes_is_mended_by_whoever_comes_next(project, how):
    promote_runs(project, RUNS[0])
    killed = subprocess.run([sys.executable, "-P", "-c", KILLED, RUNS[1], how])

    assert killed.returncode == -signal.SIGKILL
    assert run.promoted_run_id(project) == RUNS[1]
    promote_runs(project, RUNS[2])
    entries = read_history(project)
    assert [entry["run"] for entry in entries] == list(RUNS)
    assert [entry["before"] for entry in entries] == [None, RUNS[0], RUNS[1]]


def test_a_promotion_of_an_older_version_becomes_the_first_line(project):
    older = {"format": "promoted.v1", "run": RUNS[0], "promoted_at": "2026-01-01"}
    files.write_file(project.promoted, jsonio.pretty_json(older))
    promote_runs(project, RUNS[1])

    assert served(project) == list(RUNS[:2])
    assert roll_back(project, None, "why", NOW) == RUNS[0]


def test_a_history_that_was_damaged_is_named_and_promotes_nothing(project):
    promote_runs(project, RUNS[0])
    history_path(project).write_text('{"run": 7}\n', "utf-8")

    with pytest.raises(SemError, match=r"promotions\.jsonl:1: damaged"):
        promote_runs(project, RUNS[1])
    assert run.promoted_run_id(project) == RUNS[0]


def test_promotions_at_once_follow_each_other(project):
    words = [sys.executable, "-P", str(ROOT / "scripts" / "ops_promote.py"), "--sem", "toy"]
    path = {"PYTHONPATH": str(ROOT / "scripts")}
    running = [
        subprocess.Popen([*words, "--run", name, "--reason", "race"], env=os.environ | path)
        for name in (*RUNS, *RUNS)
    ]

    assert [process.wait(60) for process in running] == [0] * 6
    entries = read_history(project)
    assert len(entries) == 6
    before = [None, *(entry["run"] for entry in entries)]
    assert [entry["before"] for entry in entries] == before[:-1]


def run_job(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "scripts" / f"ops_{name}.py")
    return subprocess.run(
        [sys.executable, "-P", script, "--sem", "toy", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
    )


def test_the_jobs_roll_back_and_show_the_history(project):
    promote_runs(project, *RUNS[:2])

    unexplained = run_job("rollback")
    back = run_job("rollback", "--reason", "wrong prices")
    shown = run_job("history")

    assert unexplained.returncode == 2
    assert back.returncode == 0
    assert f"{RUNS[0]} is promoted again" in back.stderr
    assert Path(back.stdout.strip()).name == "promoted.json"
    assert "rollback" in shown.stdout
    assert "wrong prices" in shown.stdout


def test_the_history_of_nothing_is_empty(project):
    assert promotion_history.read_history(project) == []
    assert not history_path(project).exists()
