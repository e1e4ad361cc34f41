"""Jobs on the host: one folder per attempt, started once, read and ended by files.

jobs/SEM/RUN/0001/   spec.json  pid.json  child.json  heartbeat  log  exit.json
                     cancel (asked for)  seen (somebody looked)  stopped.json
"""

from __future__ import annotations

import base64
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import disk, process
from .disk import HostRefusalError

# Bytes of log in one answer.
MOST = 1 << 18
STARTING_S = 30.0
# Between TERM and KILL: a checkpoint may be written meanwhile.
GRACE_S = 30.0
ENDED = ("done", "failed", "killed", "cancelled", "lost")
Json = dict[str, Any]


def start_attempt(root: Path, request: Json) -> Json:
    """Begin an attempt of a run, or say which one is there: asked twice it starts once."""
    folder = attempts_folder(root, request)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / ".lock"):
        job = find_newest_attempt(folder)
        status = read_job_state(job) if job else None
        if job and status and not _is_free(job, status, request):
            return {**status, "attempt": job.name, "new": False}
        job = folder / f"{(int(job.name) if job else 0) + 1:04d}"
        job.mkdir()
        disk.write_json_file(job / "spec.json", request["spec"])
        _detach(root, job, request.get("secrets") or {})
        return {**_begun(job), "attempt": job.name, "new": True}


def _is_free(job: Path, status: Json, request: Json) -> bool:
    """Return whether another attempt may begin.

    The same request, sent twice by a cut, begins none.
    """
    spec = disk.load_json_file(job / "spec.json") or {}
    if status["state"] not in ENDED or spec.get("token") == request["spec"].get("token", ""):
        return False
    return status["state"] != "done" or bool(request.get("again"))


def _detach(root: Path, job: Path, secrets: dict[str, str]) -> None:
    """Start the watcher of `job` in a session of its own; secrets go through its stdin alone."""
    request = {"job": str(job.relative_to(root)), "secrets": secrets}
    argv = [sys.executable, "-I", os.path.abspath(sys.argv[0]), "watch"]
    with (job / "watch.log").open("wb") as log:
        watcher = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=root, start_new_session=True
        )
    assert watcher.stdin is not None
    watcher.stdin.write(disk.json_line(request) + b"\n")
    watcher.stdin.close()


def _begun(job: Path) -> Json:
    for _ in range(int(STARTING_S / 0.05)):
        if (job / "pid.json").exists():
            return read_job_state(job)
        time.sleep(0.05)
    raise HostRefusalError(f"{job.name} did not start", f"look at {job}/watch.log there")


def read_job_state(job: Path) -> Json:
    """Return what became of `job`.

    It holds `state`, the reason in words and the exit code where there is one.
    """
    facts = {"log": _size(job / "log"), "heartbeat_s": _age(job / "heartbeat")}
    ended, pid = disk.load_json_file(job / "exit.json"), disk.load_json_file(job / "pid.json")
    if ended is None and not process.is_alive(pid):
        # It ended between the two looks.
        ended = disk.load_json_file(job / "exit.json")
    if ended is not None:
        return {**facts, **_verdict(ended)}
    if pid is None:
        fresh = (_age(job / "spec.json") or 0.0) < STARTING_S
        return {**facts, **({"state": "starting"} if fresh else _lost("never started"))}
    if pid["boot"] != process.boot_id():
        return {**facts, **_lost("host rebooted")}
    if process.is_alive(pid):
        return {**facts, "state": "running", "why": "", "code": None}
    if process.is_alive(disk.load_json_file(job / "child.json")):
        return {**facts, "state": "running", "why": "its watcher is gone", "code": None}
    return {**facts, "state": "killed", "why": "it ended without a word", "code": 137}


def _lost(why: str) -> Json:
    return {"state": "lost", "why": why, "code": 137}


def _verdict(ended: Json) -> Json:
    code, why = ended["code"], ended.get("why", "")
    name = "done" if code == 0 else "failed"
    if why.startswith("cancelled") or why.startswith("max_hours"):
        name = "cancelled"
    elif code in (137, 143):
        name, why = "killed", why or f"signal {code - 128}"
    return {"state": name, "why": why, "code": code, "ended": ended.get("at")}


def tail_log(root: Path, request: Json) -> Json:
    """Return the log of a run from a byte on, waiting up to `wait_s` for more or for the end."""
    job = resolve_attempt(root, request)
    offset, deadline = int(request["offset"]), time.monotonic() + float(request["wait_s"])
    _touch(job / "seen")
    while True:
        status = read_job_state(job)
        if status["log"] > offset or status["state"] in ENDED or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    data = _bytes(job / "log", offset)
    answer = {**status, "attempt": job.name, "offset": offset}
    answer["data"] = base64.b64encode(data).decode("ascii")
    if status["state"] in ENDED and offset + len(data) >= status["log"]:
        answer["log_sha256"] = disk.sha256_prefix(job / "log") if (job / "log").exists() else ""
    return answer


def cancel_attempt(root: Path, request: Json) -> Json:
    """End a run, TERM and later KILL; its watcher does it, or this where that is gone."""
    job = resolve_attempt(root, request)
    status = read_job_state(job)
    if status["state"] in ENDED:
        return {**status, "attempt": job.name}
    _touch(job / "cancel")
    deadline = time.monotonic() + grace_s(job) + 10
    while time.monotonic() < deadline and read_job_state(job)["state"] not in ENDED:
        if not process.is_alive(disk.load_json_file(job / "pid.json")):
            _end_orphan(job)
        time.sleep(0.2)
    return {**read_job_state(job), "attempt": job.name}


def _end_orphan(job: Path) -> None:
    child = disk.load_json_file(job / "child.json")
    if process.is_alive(child):
        process.end_group(child, signal.SIGTERM)
        _wait(child, grace_s(job))
        process.end_group(child, signal.SIGKILL)
    if not (job / "exit.json").exists():
        disk.write_json_file(
            job / "exit.json", {"code": 143, "why": "cancelled", "at": time.time()}
        )


def _wait(child: Json, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.is_alive(child):
        time.sleep(0.1)


def grace_s(job: Path) -> float:
    """Seconds between TERM and KILL of `job`."""
    return float((disk.load_json_file(job / "spec.json") or {}).get("grace_s", GRACE_S))


def newest_attempts(root: Path, request: Json) -> Json:
    """Return the newest attempt of every run of the sem, or of all sems."""
    rows = []
    for folder in sorted((root / "jobs").glob(f"{request.get('sem') or '*'}/*")):
        job = find_newest_attempt(folder)
        if job is not None:
            name = {"sem": folder.parent.name, "run": folder.name, "attempt": job.name}
            progress = last_row(root, folder.parent.name, folder.name)
            rows.append({**name, **read_job_state(job), "progress": progress})
            if request.get("run") == folder.name:
                _touch(job / "seen")
    return {"jobs": rows}


def last_row(root: Path, sem: str, run: str) -> Json:
    """Return the last whole row of the run's metrics.jsonl, for a table."""
    path = root / "runs" / sem / run / "models" / sem / "adapters" / run / "metrics.jsonl"
    data = _bytes(path, max(0, _size(path) - 4_096))
    rows = [disk.parse_line(line) for line in data.splitlines()]
    steps = [row for row in rows if isinstance(row, dict) and "step" in row]
    return {k: v for k, v in steps[-1].items() if k in ("step", "loss", "epoch")} if steps else {}


def attempts_folder(root: Path, request: Json) -> Path:
    """Return the folder of all attempts of a run."""
    return root / "jobs" / folder_name(request, "sem") / folder_name(request, "run")


def folder_name(request: Json, key: str) -> str:
    """Return the value of `key` when it can be one folder's name."""
    value = request.get(key)
    good = isinstance(value, str) and value and not value.startswith((".", "-"))
    if not good or not all(c.isascii() and (c.isalnum() or c in "._-") for c in value):
        raise HostRefusalError(
            f"{key} {value!r} is not a name", "use letters, digits, '.', '_' and '-'"
        )
    return value


def resolve_attempt(root: Path, request: Json) -> Path:
    """Return the attempt that is asked for, by default the newest; Refusal when there is none."""
    folder = attempts_folder(root, request)
    job = (
        folder / folder_name(request, "attempt")
        if request.get("attempt")
        else find_newest_attempt(folder)
    )
    if job is None or not job.is_dir():
        raise HostRefusalError(
            f"no job of run {request['run']} here", "start it with `fab train.run`"
        )
    return job


def find_newest_attempt(folder: Path) -> Path | None:
    """Return the last attempt in `folder`."""
    attempts = sorted(path for path in folder.glob("[0-9]*") if path.is_dir())
    return attempts[-1] if attempts else None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _bytes(path: Path, offset: int) -> bytes:
    if _size(path) <= offset:
        return b""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(MOST)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _age(path: Path) -> float | None:
    return round(time.time() - path.stat().st_mtime, 1) if path.exists() else None


def _touch(path: Path) -> None:
    path.touch()
    os.utime(path)
