"""The watcher of one job: runs its steps, keeps a heartbeat, writes how it ended, stops the host.

It lives in a session of its own, so that no cut line and no restarted sshd ends it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from . import disk, jobs, process

BEAT_S = 5.0
LOOK_S = 0.2
# Bytes kept so that how it ended can be written on a full disk.
RESERVE = 1 << 16
FULL = b"No space left on device"
Json = dict[str, Any]


class JobStoppedError(Exception):
    """The job is to end; the text says why."""


def watch_job(root: Path, request: Json) -> Json:
    """Run the job of `request` to its end and write exit.json; then wait idle, if it says so."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminated)
    job = root / request["job"]
    spec = disk.load_json_file(job / "spec.json")
    (job / "reserve").write_bytes(b"\0" * RESERVE)
    disk.write_json_file(job / "pid.json", process.process_mark(os.getpid()))
    with (job / "log").open("ab", buffering=0) as log:
        code, why = _steps(root, job, spec, request["secrets"], log)
    (job / "reserve").unlink()
    if code and not why and _is_full(job):
        why = "ENOSPC"
    disk.write_json_file(job / "exit.json", {"code": code, "why": why, "at": time.time()})
    _idle(root, job, spec)
    return {}


def _terminated(*_: object) -> None:
    raise JobStoppedError("cancelled: the watcher got TERM")


def _steps(root: Path, job: Path, spec: Json, secrets: Json, log: IO[bytes]) -> tuple[int, str]:
    """Exit code and reason of the first step that fails, or of the last."""
    hours = spec.get("max_hours")
    deadline = time.monotonic() + hours * 3_600 if hours else None
    code, why = 0, ""
    for step in spec["steps"]:
        code, why = _step(root, job, step, secrets, (log, deadline))
        if code or why:
            break
    return code, why


def _step(
    root: Path, job: Path, step: Json, secrets: Json, around: tuple[IO[bytes], float | None]
) -> tuple[int, str]:
    log, deadline = around
    ready = root / step["ready"] if step.get("ready") else None
    if ready is None:
        return _run(root, job, step, secrets, around)
    ready.parent.parent.mkdir(parents=True, exist_ok=True)
    with ready.parent.with_suffix(".lock").open("a+b") as file:
        # Another job sets up the same environment.
        while not _locked(file):
            _look(job, deadline)
        if ready.exists():
            log.write(f"{ready.parent.name}: set up before, used again\n".encode())
            return 0, ""
        code, why = _run(root, job, step, secrets, around)
        if not code and not why:
            ready.touch()
        return code, why


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(LOOK_S)
        return False
    return True


def _run(
    root: Path, job: Path, step: Json, secrets: Json, around: tuple[IO[bytes], float | None]
) -> tuple[int, str]:
    log, deadline = around
    environment = {**os.environ, **(step.get("env") or {})}
    environment |= secrets if step.get("secret") else {}
    at = {k: f"{root}/{v[2:]}" if v.startswith("@/") else v for k, v in environment.items()}
    try:
        child = subprocess.Popen(
            step["argv"],
            cwd=root / step["cwd"],
            env=at,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        log.write(f"{step['argv'][0]}: {error.strerror}\n".encode())
        return 127, f"{step['argv'][0]}: {error.strerror}"
    mark = process.process_mark(child.pid)
    disk.write_json_file(job / "child.json", mark)
    try:
        while (code := child.poll()) is None:
            _look(job, deadline)
            time.sleep(LOOK_S)
    except JobStoppedError as stopped:
        return _end(child, mark, job), str(stopped)
    process.end_group(mark, signal.SIGKILL)  # what it left running
    return (code if code >= 0 else 128 - code), ""


def _end(child: subprocess.Popen[bytes], mark: Json, job: Path) -> int:
    """TERM, grace, KILL."""
    process.end_group(mark, signal.SIGTERM)
    try:
        child.wait(jobs.grace_s(job))
    except subprocess.TimeoutExpired:
        process.end_group(mark, signal.SIGKILL)
    child.wait()
    process.end_group(mark, signal.SIGKILL)
    return 143


def _look(job: Path, deadline: float | None) -> None:
    """Keep the heartbeat; Stopped when somebody cancelled or the time is over."""
    beat = job / "heartbeat"
    if not beat.exists() or time.time() - beat.stat().st_mtime > BEAT_S:
        beat.touch()
    if (job / "cancel").exists():
        raise JobStoppedError("cancelled")
    if deadline is not None and time.monotonic() > deadline:
        raise JobStoppedError("max_hours is over")


def _is_full(job: Path) -> bool:
    with (job / "log").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8_192))
        return FULL in file.read() or shutil.disk_usage(job).free < RESERVE


def _idle(root: Path, job: Path, spec: Json) -> None:
    """Run `stop` when nobody looked for `stop_after_idle_minutes` and nothing else runs."""
    minutes, stop = spec.get("stop_after_idle_minutes"), spec.get("stop")
    if minutes is None or not stop:
        return
    while not _is_forgotten(root, minutes * 60):
        time.sleep(min(BEAT_S, max(LOOK_S, minutes * 6)))
    result = subprocess.run(stop, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    error_text = result.stderr[-500:].decode("utf-8", "replace")
    disk.write_json_file(
        job / "stopped.json", {"argv": stop, "code": result.returncode, "said": error_text}
    )


def _is_forgotten(root: Path, seconds: float) -> bool:
    """Return whether every job here is over, and was last looked at `seconds` ago."""
    now = time.time()
    for job in root.glob("jobs/*/*/[0-9]*"):
        if jobs.read_job_state(job)["state"] not in jobs.ENDED:
            return False
        marks = [job / name for name in ("exit.json", "seen")]
        if any(path.exists() and now - path.stat().st_mtime < seconds for path in marks):
            return False
    return True
