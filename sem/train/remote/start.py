"""Begin a run on a host: push, set up from the lock, train; detached from the line."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.train.remote import push
from sem.train.remote.agent import Agent
from sem.train.remote.hosts import Host
from sem.train.tracking import tracking

# Handed to the training process there through its watcher's stdin, only where they are set here.
SECRETS = {
    "wandb": ("WANDB_API_KEY",),
    "mlflow": (
        "MLFLOW_TRACKING_URI",  # may hold a password
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    ),
}
PLAIN = ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL")
Json = dict[str, Any]


def start_on_host(agent: Agent, host: Host, project: Project, run: Run, resume: bool) -> Json:
    """Push what `run` needs and begin it, or find it running: asked twice it runs once."""
    _check(agent, agent.ask("hello", {}), run)
    named = {"sem": project.sem, "run": run.id}
    jobs = [job for job in agent.ask("table", named)["jobs"] if job["run"] == run.id]
    if jobs and jobs[0]["state"] in ("running", "starting"):
        console.note(f"run {run.id} is {jobs[0]['state']} on {agent.far.host}: attaching")
        return jobs[0]
    code = push.push(agent, host, project, run)
    spec = {"steps": host_steps(host, project, run, code, resume), "run": run.id, **limits(host)}
    # Before it is asked for: a cut line may hide that it began.
    files.write_file(where(run), jsonio.pretty({"host": agent.named}))
    begun = begin_job(agent, project.sem, run.id, spec, False, tracker_secrets(project))
    console.note(f"{agent.far.host}: run {run.id}, attempt {begun['attempt']}: {begun['state']}")
    return begun


def where(run: Run) -> Path:
    """Return the note of the host that `run` was sent to, so that it is not trained in two
    places.
    """
    assert run.folder is not None
    return run.folder / "host" / "where.json"


def begin_job(
    agent: Agent,
    sem: str,
    run: str,
    spec: Json,
    again: bool,
    secrets: dict[str, str] | None = None,
) -> Json:
    """Start the job of `spec` on the host, once however often it is asked.

    Its `secrets` go with the request.
    """
    # a request that a cut line sends twice is one.
    spec = {**spec, "token": uuid.uuid4().hex}
    request = {"sem": sem, "run": run, "spec": spec, "again": again, "secrets": secrets or {}}
    return agent.ask("start", request)


def tracker_secrets(project: Project) -> dict[str, str]:
    """Return the keys of the trackers that are asked for online, and no others."""
    active = tracking.resolve_tracking(project).active
    names = [name for kind, mode in active.items() if mode == "online" for name in SECRETS[kind]]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _check(agent: Agent, hello: Json, run: Run) -> None:
    """Refuse a run that was prepared for another kind of machine; warn where jobs are ended."""
    if hello["kills_left_processes"]:
        console.note(
            f"{agent.far.host}: logind ends what a login leaves running (KillUserProcesses=yes): "
            "the job may end with the line; set it to no there"
        )
    device = run.plan()["hardware"]["device"]
    if device == "cuda" and not hello["gpus"]:
        raise SemError(
            f"run {run.id} was prepared for a GPU, and {agent.far.host} shows none",
            "prepare one with `fab train.prepare --device cpu`, or choose another host",
        )
    if device == "cpu" and hello["gpus"]:
        console.note(
            f"run {run.id} was prepared for a CPU and trains on one, though {agent.far.host} "
            "has a GPU: prepare one with `fab train.prepare --device cuda` to use it"
        )


def host_steps(host: Host, project: Project, run: Run, code: str, resume: bool) -> Sequence[Json]:
    """Return what the host runs, one after the other, in the folder of `code`."""
    cwd, lock = f"code/{code}", push.lock_hash()
    environment = {
        "SEM_ROOT": f"@/runs/{project.sem}/{run.id}",
        "PYTHONUNBUFFERED": "1",
        **({"SEM_DEVICE": host.device} if host.device else {}),
        **({"CUDA_VISIBLE_DEVICES": host.gpus} if host.gpus else {}),
        **{name: os.environ[name] for name in PLAIN if os.environ.get(name)},
        **{f"SEM_{name.upper()}": mode for name, mode in tracking.resolve_tracking(project).modes},
    }
    train = ["scripts/train_run.py", f"--sem={project.sem}", f"--run={run.id}"]
    train += ["--resume"] if resume else []
    train += [f"--processes={host.processes}"] if host.processes != 1 else []
    python = host.python or f"../../envs/{lock}/bin/python"
    work = {"argv": [python, *train], "cwd": cwd, "env": environment, "secret": True}
    if host.python:
        console.note(f"set-up is skipped: hosts.yaml names {host.python}")
        return [work]
    device = {"SEM_DEVICE": host.device} if host.device else {}
    set_up = {
        "argv": ["bash", "scripts/setup_env.sh"],
        "cwd": cwd,
        "env": {"SEM_VENV": f"../../envs/{lock}", **device},
        "ready": f"envs/{lock}/ready",
    }
    return [set_up, work]


def limits(host: Host) -> Json:
    """When the host ends the job, and what it does when nobody comes back."""
    return {
        "max_hours": host.max_hours,
        "stop_after_idle_minutes": host.stop_after_idle_minutes,
        "stop": None if host.stop == "nothing" else list(host.stop),
    }
