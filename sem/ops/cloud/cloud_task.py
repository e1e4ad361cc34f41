"""A run as a SkyPilot task: a folder with only what it needs, and the YAML that says what to do.

Source of the keys: SkyPilot 0.14.1, sky/utils/schemas.py; `benchmarks/faults/cloud_task.py` hands
the YAML to that version's own reader.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest, state
from sem.core.errors import SemError
from sem.core.project import ROOT, Project
from sem.core.run import Run
from sem.lm.weights import pinned_base
from sem.train.engine import checkpoints
from sem.train.remote import push

CLOUD = re.compile(r"[a-z][a-z0-9]{1,20}(?:/[A-Za-z0-9*_-]{1,40}){0,2}")
GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}")
# Hours that are paid before and after training: image, set-up, fetching.
SET_UP_H = 0.5
# Then the machine ends itself, also when nobody is left to end it.
IDLE_MINUTES = 10
Json = dict[str, Any]


@dataclass(frozen=True)
class CloudMachine:
    """What is rented and for how much at most; `max_cost` in US dollars for the whole run."""

    cloud: str = "runpod"
    gpu: str = "RTX4090"
    count: int = 1
    spot: bool = False
    max_cost: float = 0.0
    max_hours: float = 6.0
    disk_gb: int = 60

    def __post_init__(self) -> None:
        if not CLOUD.fullmatch(self.cloud) or not GPU.fullmatch(self.gpu):
            raise SemError(
                f"--cloud {self.cloud!r} --gpu {self.gpu!r}", "write them as runpod and RTX4090"
            )
        if not 1 <= self.count <= 16 or not 0 < self.max_hours <= 240 or self.max_cost < 0:
            raise SemError(
                f"{self.count} GPUs, {self.max_hours} hours, {self.max_cost} dollars",
                "ask for 1 to 16 GPUs, up to 240 hours, 0 dollars or more",
            )

    @property
    def hourly(self) -> float:
        """Return the most an hour may cost so that the whole stays within max_cost."""
        return int(self.max_cost / (self.max_hours + SET_UP_H) * 1000) / 1000


def name_of(project: Project, run: Run) -> str:
    """Return the cluster's name: one for a run, so that asking twice rents one machine."""
    return f"sem-{re.sub('[^a-z0-9]', '-', f'{project.sem}-{run.id}'.lower())}"


def build_cloud_task(project: Project, run: Run, machine: CloudMachine, folder: Path) -> Json:
    """Return what SkyPilot is asked for; `folder` is what it sends. No variable holds a secret."""
    train = f"scripts/train_run.py --sem={project.sem} --run={run.id} --resume"
    if machine.count > 1:
        train += f" --processes={machine.count}"
    limit = f"timeout --signal=TERM --kill-after=120 {round(machine.max_hours * 3600)}"
    cost = {"max_hourly_cost": machine.hourly} if machine.max_cost else {}
    return {
        "name": name_of(project, run),
        "workdir": str(folder),
        "resources": {
            "infra": machine.cloud,
            "accelerators": {machine.gpu: machine.count},
            "use_spot": machine.spot,
            "disk_size": machine.disk_gb,
            "autostop": {"idle_minutes": IDLE_MINUTES, "down": True},
            **cost,
        },
        "envs": {"SEM_DEVICE": "cuda", "PYTHONUNBUFFERED": "1"},
        "setup": "set -e\npython3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' "
        "|| { command -v uv || python3 -m pip install -q uv; uv python install 3.11; }\n"
        "bash scripts/setup_env.sh\n",
        "run": f"set -e\n{limit} .venv/bin/python {train}\n",
    }


def task_yaml(document: Json) -> str:
    """Return `document` as YAML: what is JSON is YAML, and a person can still read it."""
    head = (
        "# SkyPilot task, written by `fab ops.launch`; sky launch --dryrun shows what it costs\n"
    )
    return head + jsonio.pretty_json(document)


def stage_run_files(project: Project, run: Run, folder: Path) -> list[Json]:
    """Fill `folder` with what `run` needs and nothing else; name, size and sha256 of each file.

    Code, the sem's settings and snapshot, run.json, the base weights where they are ours, and
    our newest whole checkpoint.
    """
    assert run.folder is not None
    shutil.rmtree(folder, ignore_errors=True)
    parts = [(ROOT, push.code_files()), (project.root, push.run_files(project, run))]
    base = pinned_base.resolve_pinned_base(run.plan()["base_model"], project.root).folder
    if Path(run.plan()["base_model"]["base_model_id"]).is_absolute():
        raise SemError(
            f"base model {base}: a path of this machine",
            "move it to models/base/NAME, name it so in the TaskSpec, prepare a new run",
        )
    parts.append((project.root, _below(project, base)))
    newest = checkpoints.newest_checkpoint(run.folder)
    if newest:
        log = run.folder / "metrics.jsonl"
        parts.append(
            (project.root, [*_below(project, newest), str(log.relative_to(project.root))])
        )
    listed = [(root, entry) for root, paths in parts for entry in push.hash_files(root, paths)]
    for root, entry in listed:
        _put(root / entry["path"], folder / entry["path"])
    return [entry for _, entry in listed]


def _below(project: Project, folder: Path) -> list[str]:
    if not folder.resolve().is_relative_to(project.root.resolve()):
        raise SemError(
            f"base model {folder}: not below {project.root}",
            "move it below models/base/, name it so in the TaskSpec, prepare a new run",
        )
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path.relative_to(project.root).as_posix() for path in paths]


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # a snapshot or model is not copied on the same disk.
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def accept_cloud_results(run: Run, came: Path) -> bool:
    """Give what `came` from the cloud its place in `run`; whether the run is finished.

    SemError names a file whose hash is not the one its manifest says; nothing is placed then.
    """
    assert run.folder is not None
    if not (came / "run.json").exists():
        return False
    ours = files.sha256_file(run.folder / "run.json")
    if files.sha256_file(came / "run.json") != ours:
        raise SemError(
            f"run {run.id}: a different run.json came back",
            "launch it again; nothing was changed here",
        )
    for folder in sorted(came.rglob("checkpoint-*")):
        target = run.folder / folder.relative_to(came)
        if not target.exists() and checkpoints.is_complete(folder):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, target.with_name(f".coming-{target.name}"), dirs_exist_ok=True)
            target.with_name(f".coming-{target.name}").rename(target)
    if (came / "metrics.jsonl").exists():
        files.write_file(run.folder / "metrics.jsonl", (came / "metrics.jsonl").read_bytes())
    sealed = came / manifest.NAME
    if not sealed.exists():
        return False
    facts = state.read_state_file(sealed, state.RunManifest)
    if facts.get("run_json_sha256") != ours:
        raise SemError(
            f"run {run.id}: the manifest that came back is of another run.json",
            "what came is kept beside; launch it again",
        )
    for name, digest in facts["adapter"].items():
        path = came / "adapter" / name
        actual = files.sha256_file(path) if path.is_file() else "missing"
        if actual != digest:
            raise SemError(
                f"adapter/{name} is {actual[:12]}…, the run's manifest says {digest[:12]}…",
                "what came is kept beside; fetch it again",
            )
    for name in facts["adapter"]:
        files.write_file(run.folder / "adapter" / name, (came / "adapter" / name).read_bytes())
    files.write_file(run.folder / manifest.NAME, sealed.read_bytes())
    return True
