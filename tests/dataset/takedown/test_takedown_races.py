"""A takedown against jobs that run: whoever was stopped in the middle publishes nothing of it."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import warm
from paths import ROOT

from sem.core import run
from sem.core.errors import Busy, SemError
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.dataset.takedown import takedown
from sem.dataset.takedown.requested_rows import TakedownRequest

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Point:
    """Where a job is stopped: before `event` on a path that ends in `name`."""

    job: str
    words: tuple[str, ...]
    event: str
    name: str


SLOW = {
    "export, done but for its name",
    "export, giving its name",
    "train, at its first step",
    "train, sealing",
    "promote, writing",
    "augment",
    "negatives",
    "split",
}


def cases(points: dict[str, Point]) -> list[object]:
    """Return the points as parameters; further ones of a job are slow tests."""
    return [
        pytest.param(point, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, point in points.items()
    ]


# Not under a lock that a takedown waits for: it ends, and the job is refused.
REFUSED = {
    "export": Point("package_export", ("--run", "RUN"), "os.rename", "/eval_report.md"),
    "export, done but for its name": Point(
        "package_export", ("--run", "RUN"), "open", "/.publish.lock"
    ),
    "train, at its first step": Point("train_run", ("--run", "RUN"), "open", "/metrics.jsonl"),
    "train, before it is sealed": Point("train_run", ("--run", "RUN"), "open", "/.publish.lock"),
    "promote": Point("ops_promote", ("--run", "RUN", "--reason", "new"), "open", "/.publish.lock"),
}
# Under one: the takedown says so and changes nothing, and ends when it is asked again.
WAITED_FOR = {
    "clean": Point("dataset_clean", (), "os.rename", "/clean.jsonl"),
    "augment": Point("dataset_augment", (), "os.rename", "/augmented.v1.jsonl"),
    "negatives": Point(
        "dataset_augment", ("--negatives", "1"), "os.rename", "/preferences.v1.jsonl"
    ),
    "split": Point(
        "dataset_split", ("--set", "dataset.split.group_by=row"), "os.rename", "/train.v2.jsonl"
    ),
    "export, giving its name": Point(
        "package_export", ("--run", "RUN"), "os.rename", "/packages/RUN"
    ),
    "train, sealing": Point("train_run", ("--run", "RUN"), "os.rename", "/RUN/manifest.json"),
    "promote, writing": Point(
        "ops_promote", ("--run", "RUN", "--reason", "new"), "os.rename", "/promoted.json"
    ),
}


@pytest.fixture
def project(tmp_path: Path, package_master: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The toy project with a finished run and its reports, without a package."""
    root = package_master.parents[3]
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    found = Project.load("toy")
    shutil.rmtree(found.packages)
    return found


def stopped(project: Project, point: Point) -> warm.Popen:
    """Return the job of `point`, stopped there."""
    target = run.find_run(project, None)
    if point.job == "train_run":
        (target.folder / "manifest.json").unlink()
        shutil.rmtree(target.adapter)
        for path in target.folder.glob("checkpoint-*"):
            shutil.rmtree(path)
    words = [point.name, f"{ROOT}/scripts/{point.job}.py", "--sem", "toy", *point.words]
    words = [word.replace("RUN", target.id) for word in words]
    argv = [sys.executable, f"{ROOT}/tests/support/stopping.py", point.event, *words]
    job = warm.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen = []
    while "stops\n" not in seen:
        seen.append(job.stdout.readline())
        assert seen[-1], job.communicate(timeout=60)
    while Path(f"/proc/{job.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        os.sched_yield()
    return job


def go_on(job: warm.Popen) -> tuple[int, str]:
    """Return the exit code of the job once it is continued, and its stderr."""
    os.kill(job.pid, signal.SIGCONT)
    _, said = job.communicate(timeout=120)
    return job.returncode, said


def take(project: Project, name: str) -> takedown.TakedownResult:
    (done,) = takedown.run_takedowns(project, TakedownRequest(ids=(name,)), AT, lambda text: None)
    return done


def traces(project: Project, page: str) -> list[str]:
    """Return the files that hold the address of the page."""
    paths = sorted(path for path in project.root.rglob("*") if path.is_file())
    return [str(path) for path in paths if page.encode() in path.read_bytes()]


def trained_row(project: Project) -> tuple[str, str]:
    """Return the id of a row that the run was trained on, and the address of its page."""
    row = next(snapshot.load_snapshot(project).examples("train"))
    return row.id, row.input_text.splitlines()[0].removeprefix("URL: ")


@pytest.mark.parametrize("point", cases(REFUSED))
def test_a_job_that_a_takedown_overtook_refuses_with_one_error(project, point) -> None:
    name, page = trained_row(project)
    target = run.find_run(project, None)
    job = stopped(project, point)

    done = take(project, name)
    code, said = go_on(job)

    assert code == 1
    assert f"error: run {target.id} is tainted: takedown {done.receipt['takedown']}" in said
    assert "Traceback" not in said
    assert traces(project, page) == []
    assert [path for path in project.packages.glob("*") if path.is_dir()] == []
    assert run.read_promotion(project) is None
    assert target.is_finished is (point.job != "train_run")


@pytest.mark.parametrize("point", cases(WAITED_FOR))
def test_a_takedown_does_not_overtake_a_job_that_is_publishing(
    project, point, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PUBLISH_WAIT_S", 0.1)
    name, page = trained_row(project)
    target = run.find_run(project, None)
    job = stopped(project, point)

    with pytest.raises(Busy, match="is being written by another process"):
        take(project, name)
    code, said = go_on(job)
    (done,) = takedown.run_takedowns(project, TakedownRequest(ids=(name,)), AT, lambda text: None)

    assert (code, "Traceback" in said) == (0, False), said
    assert traces(project, page) == []
    assert all(
        name not in {row.id for row in snapshot.load_snapshot(project).examples(part)}
        for part in ("train", "val", "test")
    )
    assert done.receipt["runs_tainted"] == [target.id]
    published = [path.name for path in project.packages.glob("*") if path.is_dir()]
    assert done.receipt["packages_tainted"] == published
    if run.read_promotion(project):
        with pytest.raises(SemError, match="is tainted"):
            run.promoted_run_id(project)
