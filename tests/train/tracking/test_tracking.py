"""Tracking: offline W&B and MLflow get every number once, no secret, and never stop a run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from toy import rows

from sem.core import files, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.train.run import plan
from sem.train.tracking import tracker, tracking
from sem.train.tracking.tracker import Tracking
from sem.train.tracking.tracking import OpenTrackers

CANARY = "cnry7f3a91"
TRAIN = [sys.executable, str(ROOT / "scripts/train_run.py"), "--sem=toy"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch) -> None:
    for variable, key, _ in tracking.TRACKERS.values():
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def prepared(toy: Path) -> tuple[Project, run.Run]:
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    project = Project.load("toy")
    clean.clean_store(project)
    snapshot.freeze_snapshot(project, plan.provenance.utc_now())
    return project, plan.prepare_training(project, None)


class Kept:
    """A tracker in memory that refuses the calls in `broken`."""

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.broken, self.calls, self.rows, self.closed = broken, 0, [], None

    def open(self, facts) -> None:
        pass

    def log(self, step, values) -> None:
        self.calls += 1
        if self.calls in self.broken:
            raise ConnectionError("no route to host")
        self.rows.append((step, dict(values)))

    def close(self, is_good) -> None:
        self.closed = is_good


def test_the_environment_decides(toy, monkeypatch) -> None:
    project = Project.load("toy")
    assert tracking.resolve_tracking(project).active == {}
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert tracking.resolve_tracking(project).active == {"wandb": "online"}
    monkeypatch.setenv("SEM_WANDB", "offline")
    assert tracking.resolve_tracking(project).active == {"wandb": "offline"}


def test_an_unknown_mode_is_refused(toy, monkeypatch) -> None:
    monkeypatch.setenv("SEM_WANDB", "yes")
    with pytest.raises(SemError) as caught:
        tracking.resolve_tracking(Project.load("toy"))
    assert caught.value.message == "SEM_WANDB='yes'"
    assert caught.value.hint == "one of online, offline, none"


def test_online_without_a_key_is_refused(toy, monkeypatch) -> None:
    monkeypatch.setenv("SEM_WANDB", "online")
    with pytest.raises(SemError, match="SEM_WANDB=online without WANDB_API_KEY"):
        tracking.resolve_tracking(Project.load("toy"))


def test_a_missing_package_is_said_before_anything_is_prepared(prepared, monkeypatch) -> None:
    project, _ = prepared
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    monkeypatch.setenv("SEM_MLFLOW", "offline")
    with pytest.raises(SemError) as caught:
        plan.prepare_training(project, None)
    assert caught.value.message == "mlflow is enabled but not installed"
    assert "mlflow-skinny==3.17.2" in caught.value.hint


def test_a_resumed_run_repeats_no_step(tmp_path) -> None:
    first, second = Kept(), Kept()
    before = OpenTrackers({"kept": first}, tmp_path / "tracking.json")
    for step in (1, 2, 3):
        before.row(step, {"examples/loss": 1.0 / step})
    after = OpenTrackers({"kept": second}, tmp_path / "tracking.json")
    after.row(2, {"examples/loss": 0.5})
    after.row(3, {"examples/loss": 1 / 3})
    # Was not reached before the kill.
    after.row(3, {"examples/eval_loss": 0.9})
    after.row(4, {"examples/loss": 0.25})
    assert second.rows == [(3, {"examples/eval_loss": 0.9}), (4, {"examples/loss": 0.25})]


def test_a_tracker_that_fails_is_said_once_and_counted(tmp_path, capsys) -> None:
    kept = Kept(broken=(2, 3, 4))
    follow = OpenTrackers({"kept": kept}, tmp_path / "tracking.json")
    for step in range(1, 8):
        follow.row(step, {"loss": 1.0})
    follow.close(True)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "kept: log: ConnectionError: no route to host; training goes on",
        "kept: 6 rows not logged; metrics.jsonl has them all",
    ]
    # Left alone after three failures in a row.
    assert kept.calls == 4


def test_what_a_tracker_says_is_told_without_keys(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-in-env")
    said = "API request to http://me:word@h:9/api failed:\n401, sent tok-in-env"
    assert (
        tracker.clean_tracked_text(said) == "API request to http://h:9/api failed: 401, sent [key]"
    )


def test_what_is_no_finite_number_is_not_sent(tmp_path) -> None:
    kept = Kept()
    OpenTrackers({"kept": kept}, tmp_path / "t.json").row(
        1, {"loss": float("nan"), "note": "x", "is": True, "lr": 1e-3}
    )
    assert kept.rows == [(1, {"lr": 1e-3})]


def test_only_the_first_of_several_processes_tracks(prepared, monkeypatch) -> None:
    _, made = prepared
    monkeypatch.setenv("RANK", "1")
    where = Tracking((("wandb", "offline"),), "sem-toy", made.folder)
    with tracking.open_trackers(made, where) as follow:
        assert follow.trackers == {}


def test_speed_memory_and_perplexity_stand_beside_every_loss(prepared) -> None:
    project, made = prepared
    plan.train_prepared(project, made, resume=False)
    logged = [row for row in rows(made.folder / "metrics.jsonl") if "loss" in row]
    assert len(logged) == made.plan()["total_steps"]
    wanted = {"tokens_per_second", "trained_tokens_per_second", "peak_memory_gib", "perplexity"}
    assert all(wanted <= row.keys() for row in logged)
    assert all(row["trained_tokens_per_second"] < row["tokens_per_second"] for row in logged)


def test_steps_hold_every_token_of_an_epoch(prepared) -> None:
    from sem.train.engine.fit import StepTokens

    project, made = prepared
    stage = plan.load_training_job(project, made).stages[0]
    recipe = plan.load_training_job(project, made).recipe
    counts = made.plan()["counts"]["train"]
    whole = StepTokens(stage, recipe).tokens(0, 9)
    assert whole == (counts["tokens"], counts["trained_tokens"])
    pace = StepTokens(stage, recipe)
    parts = [pace.tokens(0, 4), pace.tokens(4, 9)]
    assert tuple(map(sum, zip(*parts, strict=True))) == whole


def train(home: Path, made: run.Run, *words: str, **variables: str) -> str:
    done = subprocess.run(
        [*TRAIN, f"--run={made.id}", *words],
        env={**os.environ, **variables},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def holding(folder: Path, *words: str) -> list[str]:
    """Return files under `folder` whose name or bytes hold one of `words`."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [
        f"{word} in {path.name}"
        for path in paths
        for word in words
        if word in str(path.relative_to(folder)) or word.encode() in path.read_bytes()
    ]


@pytest.mark.slow
def test_an_offline_wandb_run_has_the_numbers_and_no_secret(prepared) -> None:
    project, made = prepared
    secret = {"SEM_WANDB": "offline", "CANARY_API_KEY": f"{CANARY}env"}
    train(project.root, made, "--resume", **secret)
    folder = project.reports / "wandb"
    (log,) = folder.glob(f"offline-run-*-{made.id}/*.wandb")
    text = log.read_bytes()
    for word in (b"examples/loss", b"examples/eval_loss", b"examples/tokens_per_second"):
        assert word in text
    assert made.plan()["snapshot"]["sha256"].encode() in text
    machine = (CANARY, "train_run.py", "--resume", str(project.root), os.uname().nodename)
    assert holding(folder, *machine) == []
    assert sorted(files.read_json(made.folder / "tracking.json")) == ["wandb"]


@pytest.mark.slow
def test_wandb_that_cannot_be_reached_is_kept_offline_and_the_run_ends_well(prepared) -> None:
    project, made = prepared
    nowhere = {"WANDB_API_KEY": f"{CANARY}{'a' * 30}", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    said = train(project.root, made, **nowhere)
    assert "it is kept offline: `wandb sync` sends it later" in said
    assert made.is_finished
    assert list((project.reports / "wandb").glob(f"offline-run-*-{made.id}"))
    assert holding(project.root, CANARY) == []


mlflow = pytest.mark.skipif(
    tracking.find_spec("mlflow") is None, reason="the extra `mlflow` (13 packages) is not here"
)


@pytest.mark.slow
@mlflow
def test_an_mlflow_file_store_has_the_numbers_once_and_no_path(prepared) -> None:
    project, made = prepared
    given = {"SEM_MLFLOW": "offline", "CANARY_API_KEY": f"{CANARY}env"}
    train(project.root, made, **given)
    (made.folder / "manifest.json").unlink()
    # Steps 7 to 9 are trained again.
    shutil.rmtree(made.folder / "checkpoint-9")
    train(project.root, made, "--resume", **given)
    (stored,) = (project.reports / "mlflow").glob("*/*/metrics/examples")
    steps = [int(line.split()[2]) for line in (stored / "loss").read_text().splitlines()]
    assert steps == list(range(1, made.plan()["total_steps"] + 1))
    assert holding(project.reports / "mlflow", CANARY, str(project.root), "train_run.py") == []
    params = {path.name for path in stored.parents[1].glob("params/*")}
    assert {"git_commit", "recipe.learning_rate", "snapshot.sha256"} <= params


@pytest.mark.slow
@mlflow
def test_an_mlflow_server_that_is_gone_stops_nothing(prepared) -> None:
    project, made = prepared
    said = train(project.root, made, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert len(re.findall("mlflow: open: MlflowException", said)) == 1
    assert "rows not logged; metrics.jsonl has them all" in said
    assert made.is_finished
