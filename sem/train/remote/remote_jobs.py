"""The jobs of train.* that work on a host: run, attach, status, cancel, pull."""

import base64
import codecs
import os
import shutil
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, manifest, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run, finished_run_error
from sem.train.remote import hosts, push
from sem.train.remote.agent import Agent, Unreachable
from sem.train.remote.far import parcel
from sem.train.remote.far.disk import HostRefusalError
from sem.train.remote.far.jobs import ENDED
from sem.train.remote.hosts import Host
from sem.train.tracking import tracking

# Fetch a run from a host: into a folder beside, checked twice, then file by file into its place.
#
# The host's list gives a hash for every file; the run's own manifest.json must agree with what
# came, and with the run.json that is here. manifest.json is moved last: without it the run is
# unfinished.

Json = dict[str, Any]
INCOMING = "host/incoming"


def pull_finished_run(agent: Agent, sem: str, run: Run, with_checkpoints: bool = False) -> int:
    """Bring the finished `run` here, or its whole checkpoints; how many files got their place.

    SemError names a file whose hash is wrong; the files that were here then stay as they were.
    """
    assert run.folder is not None
    request = {"sem": sem, "run": run.id, "checkpoints": with_checkpoints}
    reply = agent.ask("list", request, more_s=600)
    listed = _sealed(_agreed(agent, reply["files"]))
    names = {entry["path"] for entry in listed}
    if manifest.NAME not in names and not with_checkpoints:
        raise SemError(
            f"run {run.id} is not finished on {agent.far.host}: {reply['state']}",
            "wait with `fab train.attach`, or fetch its checkpoints with --checkpoints",
        )
    own = next((entry for entry in listed if entry["path"] == "run.json"), None)
    if own is None or own["sha256"] != files.sha256_file(run.folder / "run.json"):
        raise SemError(
            f"run {run.id}: run.json on {agent.far.host} differs from the one here",
            "the host holds a different run of that name: nothing was fetched",
        )
    entries = [e for e in listed if e["path"] != "run.json" and not _is_here(run.folder, e)]
    staging = run.folder / INCOMING
    staging.mkdir(parents=True, exist_ok=True)
    agent.fetch({**request, "listed": entries}, staging, f"run {run.id}")
    _verify(run, staging, listed)
    _move(run.folder, staging, [entry["path"] for entry in entries])
    return len(entries)


def _agreed(agent: Agent, listed: Any) -> list[Json]:
    try:
        agreed = parcel.check_entries(listed)
    except HostRefusalError as refusal:
        raise SemError(f"{agent.far.host}: {refusal.message}", refusal.hint) from refusal
    # What this machine notes of the host is not the host's to write.
    return [entry for entry in agreed if not entry["path"].startswith("host/")]


def _is_here(folder: Path, entry: Json) -> bool:
    return parcel.is_entry(folder / entry["path"], entry)


def _verify(run: Run, staging: Path, listed: list[Json]) -> None:
    """Compare what came with the manifests that the run itself wrote."""
    assert run.folder is not None
    at = {e["path"]: _where(run.folder, staging, e) for e in listed if e["path"] != "run.json"}
    if manifest.NAME in at:
        facts = state.read_state_file(at[manifest.NAME], state.RunManifest)
        if facts.get("run_json_sha256") != files.sha256_file(run.folder / "run.json"):
            raise SemError(
                f"run {run.id}: its manifest names a different run.json",
                "check that it is the same run",
            )
        for name, sha256 in facts["adapter"].items():
            _compare(at.get(f"adapter/{name}"), f"adapter/{name}", sha256)
    for path in [path for path in at if path.endswith(f"/{manifest.NAME}")]:
        folder = path.removesuffix(f"/{manifest.NAME}")
        for name, entry in state.read_state_file(at[path], state.FileManifest)["files"].items():
            _compare(at.get(f"{folder}/{name}"), f"{folder}/{name}", entry["sha256"])


def _sealed(listed: list[Json]) -> list[Json]:
    """Return `listed` without checkpoints that have no manifest: one was just being written."""
    names = {entry["path"] for entry in listed}
    entries, torn_folders = [], set()
    for entry in listed:
        parts = entry["path"].split("/")
        at = next((n for n, part in enumerate(parts) if part.startswith("checkpoint-")), None)
        folder = "/".join(parts[: at + 1]) if at is not None else ""
        if at is None or f"{folder}/{manifest.NAME}" in names:
            entries.append(entry)
        else:
            torn_folders.add(folder)
    for folder in sorted(torn_folders):
        console.print_note(f"{folder} is not complete on the host: left out")
    return entries


def _where(folder: Path, staging: Path, entry: Json) -> Path:
    came = staging / entry["path"]
    return came if came.exists() else folder / entry["path"]


def _compare(path: Path | None, name: str, expected_sha256: str) -> None:
    sha256 = files.sha256_file(path) if path is not None and path.is_file() else "missing"
    if sha256 != expected_sha256:
        raise SemError(
            f"{name} is {sha256[:12]}…, the run's manifest says {expected_sha256[:12]}…",
            "the files here were not changed; look at that run on the host",
        )


def _move(folder: Path, staging: Path, names: list[str]) -> None:
    """Give every file its place in one step each, manifest.json last."""
    for name in sorted(names, key=lambda name: (name == manifest.NAME, name)):
        files.move_into_place(staging / name, folder / name)
    shutil.rmtree(staging)


# Begin a run on a host: push, set up from the lock, train; detached from the line.

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


def start_on_host(agent: Agent, host: Host, project: Project, run: Run, resume: bool) -> Json:
    """Push what `run` needs and begin it, or find it running: asked twice it runs once."""
    _check(agent, agent.ask("hello", {}), run)
    named = {"sem": project.sem, "run": run.id}
    jobs = [job for job in agent.ask("table", named)["jobs"] if job["run"] == run.id]
    if jobs and jobs[0]["state"] in ("running", "starting"):
        console.print_note(f"run {run.id} is {jobs[0]['state']} on {agent.far.host}: attaching")
        return jobs[0]
    code = push.push_run(agent, host, project, run)
    spec = {
        "steps": host_steps(host, project, run, code, resume),
        "run": run.id,
        **host_job_limits(host),
    }
    # Before it is asked for: a cut line may hide that it began.
    files.write_file(host_note_path(run), jsonio.pretty_json({"host": agent.named}))
    begun = begin_job(agent, project.sem, run.id, spec, False, tracker_secrets(project))
    console.print_note(
        f"{agent.far.host}: run {run.id}, attempt {begun['attempt']}: {begun['state']}"
    )
    return begun


def host_note_path(run: Run) -> Path:
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
        console.print_note(
            f"{agent.far.host}: logind ends what a login leaves running (KillUserProcesses=yes): "
            "the job may end with the connection; set it to no there"
        )
    device = run.plan()["hardware"]["device"]
    if device == "cuda" and not hello["gpus"]:
        raise SemError(
            f"run {run.id} was prepared for a GPU, and {agent.far.host} shows none",
            "prepare one with `fab train.prepare --device cpu`, or choose another host",
        )
    if device == "cpu" and hello["gpus"]:
        console.print_note(
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
        console.print_note(f"set-up is skipped: hosts.yaml names {host.python}")
        return [work]
    device = {"SEM_DEVICE": host.device} if host.device else {}
    set_up = {
        "argv": ["bash", "scripts/setup_env.sh"],
        "cwd": cwd,
        "env": {"SEM_VENV": f"../../envs/{lock}", **device},
        "ready": f"envs/{lock}/ready",
    }
    return [set_up, work]


def host_job_limits(host: Host) -> Json:
    """When the host ends the job, and what it does when nobody comes back."""
    return {
        "max_hours": host.max_hours,
        "stop_after_idle_minutes": host.stop_after_idle_minutes,
        "stop": None if host.stop == "nothing" else list(host.stop),
    }


# Follow a job on a host by its log, from the byte where the last look ended, to its exit code.

# The host answers at once when there is more.
WAIT_S = 15.0


@dataclass(frozen=True)
class AttemptLog:
    """The copy here of the log of one attempt."""

    path: Path

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def add(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(data)


def follow_job(agent: Agent, sem: str, run: str, folder: Path, attempt: str | None = None) -> Json:
    """Return the last state of the job, its whole log in `folder` and on stderr as it grows.

    Unreachable when the line stays cut: the next call goes on from the byte where this one was.
    """
    named = {"sem": sem, "run": run, **({"attempt": attempt} if attempt else {})}
    first = agent.ask("tail", {**named, "offset": 1 << 53, "wait_s": 0})
    named["attempt"] = first["attempt"]
    log = AttemptLog(folder / f"log.{first['attempt']}")
    # Of another host, or of a job that was removed there.
    if log.size() > first["log"]:
        log.path.unlink()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        request = {**named, "offset": log.size(), "wait_s": WAIT_S}
        try:
            reply = agent.ask("tail", request, more_s=WAIT_S)
        except Unreachable as error:
            raise Unreachable(
                error.message,
                f"the job there continues; `fab -H {agent.named} train.attach --run {run}` shows "
                f"the rest from byte {log.size():,}",
            ) from error
        data = base64.b64decode(reply.pop("data"))
        log.add(data)
        print_log(decoder.decode(data))
        if reply["state"] in ENDED and "log_sha256" in reply:
            return _whole(log, reply)


def _whole(log: AttemptLog, reply: Json) -> Json:
    """Return `reply`, once the log here is byte for byte the one there."""
    here = files.sha256_file(log.path) if log.path.exists() else ""
    if here != reply["log_sha256"] and reply["log"]:
        log.path.unlink()
        raise SemError(
            f"{log.path.name} differs from the log on the host",
            "attach again: the log is read from the start",
        )
    return reply


def print_log(text: str) -> None:
    """Print `text` of a log to stderr, without what steers a terminal."""
    print(
        console.replace_control_characters(text.replace("\r", "\n")),
        end="",
        file=sys.stderr,
        flush=True,
    )


def state_words(job: Json) -> str:
    """Return the state of a job for a person, as `failed: ENOSPC` or `lost: host rebooted`."""
    why, code = job.get("why") or "", job.get("code")
    if job["state"] in ("running", "starting", "done") and not why:
        return str(job["state"])
    return f"{job['state']}: {why or f'exit {code}'}"


COLUMNS = ("run", "attempt", "state", "step", "loss", "log bytes", "heartbeat, s ago")
Json = dict[str, Any]


def run_on_host(
    project: Project, target: Run, host: str, resume: bool, detach: bool, processes: int = 1
) -> int:
    """Push, start, follow and fetch; the exit code of the job there (0: it is fetched)."""
    if target.is_finished:
        raise finished_run_error(target)
    _only_there(target, host)
    host_spec = hosts.find_host(project.root, host)
    host_spec = replace(host_spec, processes=processes) if processes != 1 else host_spec
    begun = start_on_host(host_spec.agent(host), host_spec, project, target, resume)
    if detach:
        console.print_note(f"it continues there; look at it with `fab -H {host} train.attach`")
        return 0
    code = follow_remote_job(project, target, host, begun["attempt"])
    if code == 0:
        pull_from_host(project, target, host, False)
    return code


def follow_remote_job(project: Project, target: Run, host: str, attempt: str | None = None) -> int:
    """Follow the job of `target` on `host` to its end; its exit code."""
    job = follow_job(_agent(project, host), project.sem, target.id, _notes(target), attempt)
    console.print_note(f"run {target.id} on {host}: {state_words(job)}")
    return int(job["code"])


def pull_from_host(project: Project, target: Run, host: str, with_checkpoints: bool) -> int:
    """Fetch `target` from `host`; how many files came."""
    count = pull_finished_run(_agent(project, host), project.sem, target, with_checkpoints)
    console.print_note(f"run {target.id}: {count} files fetched from {host}, every hash as listed")
    return count


def list_remote_runs(project: Project, host: str) -> list[tuple[object, ...]]:
    """Return a row for every run of the sem on `host`."""
    return [_row(job) for job in _agent(project, host).ask("table", {"sem": project.sem})["jobs"]]


def cancel_on_host(project: Project, target: Run, host: str) -> str:
    """End the job of `target` on `host`; its state then."""
    named = {"sem": project.sem, "run": target.id}
    return state_words(_agent(project, host).ask("cancel", named, more_s=60))


def _row(job: Json) -> tuple[object, ...]:
    progress = job["progress"]
    figures = [progress.get(key, "") for key in ("step", "loss")]
    beat = job["heartbeat_s"] if job["state"] == "running" else ""
    return (job["run"], job["attempt"], state_words(job), *figures, job["log"], beat)


def _agent(project: Project, host: str) -> Agent:
    return hosts.find_host(project.root, host).agent(host)


def _notes(target: Run) -> Any:
    assert target.folder is not None
    return target.folder / "host"


def _only_there(target: Run, host: str) -> None:
    """Refuse a second host for a run that is on one already: two would train it."""
    path = host_note_path(target)
    sent_host = state.read_state_file(path, state.RemoteRunHost)["host"] if path.exists() else host
    if sent_host != host:
        raise SemError(
            f"run {target.id} was sent to {sent_host!r}",
            f"fetch or cancel it there; to move it here remove {path}",
        )
