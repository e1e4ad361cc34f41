"""A rented machine: the task that is asked for, what is sent, resumed when taken, always ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from sem.core import files, jsonio, run, settings
from sem.core.errors import SemError
from sem.core.project import Project
from sem.ops.cloud import cloud_launch, cloud_task
from sem.ops.cloud.cloud_task import CloudMachine
from sem.train.run import plan

# Stands for `sky`: its machine is a folder; what `run` says is done there, by this Python.
SKY = """
import json, os, pathlib, shutil, signal, subprocess, sys, time
home = pathlib.Path(__file__).parent
with (home / "calls").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
taken = home / "taken"
if sys.argv[1] == "down":
    shutil.rmtree(home / "machine", ignore_errors=True)
elif "--dryrun" in sys.argv:
    sys.exit((home / "no-price").exists())
else:
    task = json.loads(pathlib.Path(sys.argv[-1]).read_text().split("\\n", 1)[1])
    shutil.copytree(task["workdir"], home / "machine")
    words = task["run"].split(".venv/bin/python ")[1].split()
    env = {**os.environ, "SEM_ROOT": str(home / "machine")}
    with subprocess.Popen([sys.executable, *words], cwd=home / "machine", env=env) as job:
        if not taken.exists() and (home / "spot").exists():
            at = (home / "machine").glob
            while job.poll() is None and not list(at("models/toy/adapters/*/checkpoint-3/man*")):
                time.sleep(0.05)
            job.send_signal(signal.SIGSTOP)
            time.sleep(3)  # what is fetched every so often has come by now
            job.kill()
            taken.touch()
            shutil.rmtree(home / "machine")
    sys.exit(100 if job.returncode else 0)
"""
RSYNC = """
import pathlib, shutil, sys
source = pathlib.Path(__file__).parent / "machine" / sys.argv[1].split("sky_workdir/")[1]
if not source.is_dir():
    sys.exit(255)
shutil.copytree(source, sys.argv[2], dirs_exist_ok=True)
"""


@pytest.fixture
def prepared(toy: Path, tiny_model: Path) -> tuple[Project, run.Run]:
    """The toy project prepared on a base model of its own folder."""
    import shutil

    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    shutil.copytree(tiny_model, toy / "models" / "base" / "tiny")
    spec = toy / "configs/toy/tasks/price.json"
    named = files.read_json(spec) | {"base_model_id": "models/base/tiny"}
    files.write_file(spec, jsonio.pretty_json(named))
    project = Project.load("toy")
    clean.clean_store(project)
    snapshot.freeze_snapshot(project, plan.provenance.utc_now())
    return project, plan.prepare_training(project, None)


@pytest.fixture
def tools(tmp_path: Path) -> cloud_launch.CloudTools:
    (tmp_path / "cloud").mkdir()
    for name, code in (("sky.py", SKY), ("rsync.py", RSYNC)):
        (tmp_path / "cloud" / name).write_text(code)
    made = [(sys.executable, str(tmp_path / "cloud" / name)) for name in ("sky.py", "rsync.py")]
    return cloud_launch.CloudTools(*made)


def calls(tools: cloud_launch.CloudTools) -> list[list[str]]:
    path = Path(tools.sky[1]).with_name("calls")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_task_says_what_is_rented_and_ends_by_itself(prepared) -> None:
    project, made = prepared
    wanted = CloudMachine("runpod", "RTX4090", 2, True, max_cost=6.5, max_hours=6.0)
    found = cloud_task.build_cloud_task(project, made, wanted, Path("/w"))
    assert found["resources"] == {
        "infra": "runpod",
        "accelerators": {"RTX4090": 2},
        "use_spot": True,
        "disk_size": 60,
        "autostop": {"idle_minutes": 10, "down": True},
        "max_hourly_cost": 1.0,
    }
    assert found["run"] == (
        "set -e\ntimeout --signal=TERM --kill-after=120 21600 .venv/bin/python "
        f"scripts/train_run.py --sem=toy --run={made.id} --resume --processes=2\n"
    )
    assert found["envs"] == {"SEM_DEVICE": "cuda", "PYTHONUNBUFFERED": "1"}
    assert settings.parse_yaml(cloud_task.task_yaml(found), "task.yaml") == found


def test_what_is_sent_is_what_is_needed_and_no_key(prepared, monkeypatch) -> None:
    project, made = prepared
    monkeypatch.setenv("WANDB_API_KEY", "canary-0a1b2c")
    for name in (".env", "configs/toy/id_rsa", "data/toy/raw/page.html"):
        files.write_file(project.root / name, "canary-0a1b2c")
    path = cloud_launch.write_cloud_task(project, made, CloudMachine())
    sent = {
        p.relative_to(path.parent / "workdir").as_posix()
        for p in (path.parent / "workdir").rglob("*")
        if p.is_file()
    }
    wanted = {"scripts/train_run.py", "requirements-gpu.lock", "models/base/tiny/config.json"}
    wanted |= {f"models/toy/adapters/{made.id}/run.json", "data/toy/processed/v1.json"}
    assert wanted <= sent
    assert not [name for name in sent if "raw/" in name or name.startswith((".git/", "tests/"))]
    held = [
        p for p in path.parent.rglob("*") if p.is_file() and b"canary-0a1b2c" in p.read_bytes()
    ]
    assert held == []


@pytest.mark.parametrize("wrong", [{"cloud": "run pod"}, {"gpu": "$(x)"}, {"max_hours": 0}])
def test_a_senseless_wish_is_refused(wrong) -> None:
    with pytest.raises(SemError):
        CloudMachine(**wrong)


def test_a_run_prepared_for_a_cpu_rents_no_gpu(prepared, tools) -> None:
    _, made = prepared
    script = [sys.executable, str(ROOT / "scripts/ops_launch.py"), "--sem=toy", "--yes"]
    done = subprocess.run([*script, "--max-cost=5"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"error: run {made.id} was prepared for a cpu"


def test_nothing_is_rented_without_a_limit(prepared, tools) -> None:
    with pytest.raises(SemError) as caught:
        cloud_launch.train_on_cloud(*prepared, CloudMachine(), tools)
    assert caught.value.message == "no --max-cost"
    assert calls(tools) == []


def test_nothing_is_rented_when_the_price_is_unknown(prepared, tools) -> None:
    Path(tools.sky[1]).with_name("no-price").touch()
    with pytest.raises(SemError) as caught:
        cloud_launch.train_on_cloud(*prepared, CloudMachine(max_cost=5), tools)
    assert caught.value.message == "cost unknown: ask `sky show-gpus`"
    assert [call[0] for call in calls(tools) if "--dryrun" not in call] == ["down"]


def test_the_script_without_yes_writes_the_task_and_calls_nothing(prepared, tmp_path) -> None:
    called = tmp_path / "called"
    files.write_file(tmp_path / "bin" / "uvx", f"#!/bin/sh\ntouch {called}\n")
    (tmp_path / "bin" / "uvx").chmod(0o755)
    script = [sys.executable, str(ROOT / "scripts/ops_launch.py"), "--sem=toy", "--spot"]
    given = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(script, capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stderr
    assert '"use_spot": true' in done.stdout
    assert "nothing was rented" in done.stderr
    assert not called.exists()


@pytest.mark.slow
def test_a_machine_that_is_taken_away_is_replaced_and_the_run_goes_on(
    prepared, tools, monkeypatch
) -> None:
    project, made = prepared
    copy = project.adapters / f"{made.id}-b"
    files.write_file(copy / "run.json", (made.folder / "run.json").read_bytes())
    plan.train_prepared(project, run.Run(copy.name, copy), resume=False)
    Path(tools.sky[1]).with_name("spot").touch()
    monkeypatch.setattr(cloud_launch, "LOOK_S", 0.5)
    assert cloud_launch.train_on_cloud(project, made, CloudMachine(spot=True, max_cost=5), tools)
    done = [call[0] for call in calls(tools) if "--dryrun" not in call]
    assert done == ["launch", "down", "launch", "down"]
    digests = [
        files.sha256_file(at / "adapter" / "adapter_model.safetensors")
        for at in (copy, made.folder)
    ]
    assert digests[0] == digests[1]
    assert files.read_json(made.folder / "manifest.json")["result"]["resumed_from"]


@pytest.mark.slow
def test_a_run_that_fails_there_is_told_and_the_machine_is_ended(prepared, tools) -> None:
    project, made = prepared
    broken = files.read_json(made.folder / "run.json") | {"renderer": "another"}
    files.write_file(made.folder / "run.json", jsonio.pretty_json(broken))
    with pytest.raises(SemError, match="did not finish in the cloud"):
        cloud_launch.train_on_cloud(project, made, CloudMachine(max_cost=5), tools)
    assert calls(tools)[-1][0] == "down"


def test_a_wrong_hash_is_refused_and_nothing_is_placed(prepared, tmp_path) -> None:
    _, made = prepared
    came = tmp_path / "came"
    files.write_file(came / "run.json", (made.folder / "run.json").read_bytes())
    files.write_file(came / "adapter" / "adapter_model.safetensors", b"forged")
    facts = {
        "adapter": {"adapter_model.safetensors": "0" * 64},
        "run_json_sha256": files.sha256_file(came / "run.json"),
    }
    files.write_file(came / "manifest.json", jsonio.pretty_json(facts))
    with pytest.raises(SemError, match=r"adapter/adapter_model\.safetensors is"):
        cloud_task.accept_cloud_results(made, came)
    assert not made.is_finished
    assert not made.adapter.exists()


def test_a_manifest_of_another_plan_is_named_as_such(prepared, tmp_path) -> None:
    # It said that a file's hash was not what the manifest says, and gave the same hash twice.
    _, made = prepared
    came = tmp_path / "came"
    files.write_file(came / "run.json", (made.folder / "run.json").read_bytes())
    facts = {"adapter": {}, "run_json_sha256": "0" * 64}
    files.write_file(came / "manifest.json", jsonio.pretty_json(facts))
    with pytest.raises(SemError, match="is of another run.json"):
        cloud_task.accept_cloud_results(made, came)
    assert not made.is_finished
