"""Training on a tiny real model: resumes bit for bit, stops on NaN, refuses what changed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import warm
from paths import ROOT
from toy import rows

from sem.core import files, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.train.engine import checkpoints
from sem.train.run import plan


@pytest.fixture
def prepared(prepared_toy) -> tuple[Project, run.Run]:
    return prepared_toy


def test_preparing_twice_makes_one_run(prepared) -> None:
    project, made = prepared
    assert plan.prepare_training(project, None).id == made.id


def test_run_json_resolves_everything(prepared) -> None:
    _, made = prepared
    found = made.plan()
    assert found["counts"]["train"]["examples"] == 35
    assert found["total_steps"] == 9
    assert found["base_model"]["revision"].startswith("sha256:")
    assert found["recipe"]["lora"]["rank"] == 4


def test_few_steps_are_said_before_training(prepared) -> None:
    few = prepared[1].plan()
    assert plan.plan_doubts(few) == [
        f"{few['total_steps']} optimizer steps on {few['counts']['train']['examples']:,} examples "
        "are few: a model may not even learn the form; raise epochs, lower effective_batch, or "
        "raise learning_rate (train.yaml)"
    ]
    assert plan.plan_doubts(few | {"total_steps": plan.FEW_STEPS}) == []


def test_a_run_from_a_checkpoint_ends_bit_equal(prepared) -> None:
    project, made = prepared
    plan.train_prepared(project, made, resume=False)
    whole = files.sha256_file(made.adapter / "adapter_model.safetensors")
    log = rows(made.folder / "metrics.jsonl")
    (made.folder / "manifest.json").unlink()
    last = checkpoints.newest_checkpoint(made.folder)
    torn = last / "optimizer.pt"
    torn.chmod(0o644)
    torn.write_bytes(torn.read_bytes()[:-100])
    result = plan.train_prepared(project, made, resume=True)
    assert result["resumed_from"] == "checkpoint-6"
    assert files.sha256_file(made.adapter / "adapter_model.safetensors") == whole
    again = rows(made.folder / "metrics.jsonl")
    steps = [(row["step"], row["loss"]) for row in again if "loss" in row]
    assert steps == [(row["step"], row["loss"]) for row in log if "loss" in row]
    assert list(made.folder.glob("quarantine-*"))


@pytest.mark.slow
def test_kill_9_then_the_same_command_finishes_with_the_same_weights(prepared) -> None:
    project, made = prepared
    plan.train_prepared(project, made, resume=False)
    whole = files.sha256_file(made.adapter / "adapter_model.safetensors")
    (made.folder / "manifest.json").unlink()
    for path in made.folder.glob("checkpoint-*"):
        subprocess.run(["rm", "-r", str(path)], check=True)
    command = [sys.executable, str(ROOT / "scripts/train_run.py"), "--sem", "toy"]
    with warm.Popen(command, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(made.folder.glob("checkpoint-3/m*")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert not made.is_finished
    warm.run(command, check=True, timeout=120)
    assert files.sha256_file(made.adapter / "adapter_model.safetensors") == whole


def test_nan_stops_the_run_and_publishes_nothing(prepared) -> None:
    project, made = prepared
    recorded = json.loads((made.folder / "run.json").read_text())
    recorded["recipe"] |= {"learning_rate": 0.999, "max_grad_norm": 1e30, "epochs": 60}
    recorded["recipe"]["lora"]["alpha"] = 10**30
    files.write_file(made.folder / "run.json", json.dumps(recorded))
    with pytest.raises(SemError, match="not finite|nan|inf"):
        plan.train_prepared(project, made, resume=False)
    assert not made.is_finished


def test_a_changed_snapshot_is_refused(prepared) -> None:
    project, made = prepared
    path = project.processed / "train.v1.jsonl"
    path.chmod(0o644)
    path.write_text(path.read_text().replace("Mug", "Cup", 1))
    with pytest.raises(SemError, match=r"train\.v1\.jsonl"):
        plan.train_prepared(project, made, resume=False)


def test_a_finished_run_is_not_trained_again(prepared) -> None:
    project, made = prepared
    files.write_file(made.folder / "manifest.json", "{}")
    with pytest.raises(SemError, match="is finished") as error:
        plan.train_prepared(project, made, resume=False)
    # "Prepare a new one" gave the same run again, and the same refusal.
    assert "--set train.seed=2" in error.value.hint
