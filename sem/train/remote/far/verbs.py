"""What the host is asked: one JSON line in, one out, file streams behind or before it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from . import disk, jobs, parcel
from .disk import HostRefusalError
from .watch import watch_job

Json = dict[str, Any]
ANSWER, STREAM = b"SEM-ANSWER ", b"SEM-STREAM\n"
KINDS = ("code", "run", "weights")


def main() -> None:
    """Answer the verb in argv with the request on stdin; the folder is the working directory."""
    os.umask(0o077)
    root, verb = Path.cwd(), sys.argv[1]
    try:
        answer = VERBS[verb](root, json.loads(sys.stdin.buffer.readline()))
    except HostRefusalError as refusal:
        answer = {"error": refusal.message, "hint": refusal.hint}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free space there, then run it again" if full else "look at that folder there"
        where = os.path.relpath(error.filename, root) if error.filename else "the folder there"
        answer = {"error": f"{where}: {error.strerror}", "hint": hint}
    sys.stdout.buffer.write(b"\n" + ANSWER + disk.json_line(answer) + b"\n")
    sys.stdout.buffer.flush()


def describe_host(root: Path, _: Json) -> Json:
    """Return what kind of machine this is."""
    cards = len(list(Path("/dev").glob("nvidia[0-9]*")))
    free = os.statvfs(root)
    loose = Path("/etc/systemd/logind.conf")
    text = loose.read_text("utf-8") if loose.is_file() else ""
    kills = any(line.strip() == "KillUserProcesses=yes" for line in text.splitlines())
    return {
        "folder": str(root),
        "python": ".".join(map(str, sys.version_info[:3])),
        "gpus": cards or int(Path("/dev/kfd").exists()),
        "free": free.f_bavail * free.f_frsize,
        "kills_left_processes": kills,
    }


def report_files(root: Path, request: Json) -> Json:
    """Return whether a file is there; the run.json of a run and how many rows its metrics have."""
    if request.get("path"):
        return {"file": Path(request["path"]).is_file()}
    folder = _run_folder(root, request)
    metrics = folder / "metrics.jsonl"
    rows = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
    return {"run_json": disk.load_json_file(folder / "run.json"), "rows": rows}


def list_needed_files(root: Path, request: Json) -> Json:
    """Return which of the listed files are not here yet, and how much of each is."""
    listed, target = parcel.check_entries(request["listed"]), _target(root, request)
    _refuse_other_run(target, listed, request)
    lacking = {entry["path"] for entry, _ in parcel.list_missing_pieces(target, listed)}
    entries = [entry for entry in listed if entry["path"] in lacking]
    if not entries:
        return {"needed": []}
    staging = _staging(root, request)
    if request["kind"] == "code":
        # a new folder: what an older one has is copied, not sent.
        entries = listed
        _copy_known(root, staging, entries)
    needed = parcel.list_missing_pieces(staging, entries)
    if not needed:
        parcel.place_files(staging, target, entries, _last(request))
    return {"needed": [[entry["path"], offset] for entry, offset in needed]}


def receive_files(root: Path, request: Json) -> Json:
    """Take the stream behind `request`; when all is here, give it its place."""
    listed, target = parcel.check_entries(request["listed"]), _target(root, request)
    staging = _staging(root, request)
    with (root / "incoming" / f".{_label(request)}.lock").open("a+b") as lock:
        _take_over(lock)
        parcel.unpack_stream(sys.stdin.buffer, staging, listed)
        return list_needed_files(root, request) if target else {}


def send_files(root: Path, request: Json) -> Json:
    """Write the asked files of a run to stdout as one stream."""
    folder = _run_folder(root, request)
    pieces = [(entry, offset) for entry, offset in request["wanted"]]
    parcel.check_entries([entry for entry, _ in pieces])
    sys.stdout.buffer.write(b"\n" + STREAM)
    parcel.write_parcel(sys.stdout.buffer, folder, pieces)
    return {"sent": len(pieces)}


def list_files(root: Path, request: Json) -> Json:
    """Return the files of a run with their hashes; checkpoints only where they are asked for."""
    folder = _run_folder(root, request)
    job = jobs.find_newest_attempt(jobs.attempts_folder(root, request))
    if job is not None:
        (job / "seen").touch()
    if not folder.is_dir():
        raise HostRefusalError(f"no run {request['run']} here", "send it with `fab train.run`")
    names = [
        n for n in parcel.paths_below(folder) if _is_asked(n, bool(request.get("checkpoints")))
    ]
    status = jobs.read_job_state(job) if job is not None else {"state": "none"}
    return {**status, "files": parcel.list_entries(folder, names)}


def _is_asked(name: str, checkpoints: bool) -> bool:
    parts = name.split("/")
    if parts[0] == "host" or any(part.startswith((".", "quarantine-")) for part in parts):
        return False
    return checkpoints or not any(part.startswith("checkpoint-") for part in parts)


def start_request(root: Path, request: Json) -> Json:
    """Link the shared base weights into the run, then begin the job."""
    home = root / "runs" / jobs.folder_name(request, "sem") / jobs.folder_name(request, "run")
    shared = root / "models" / "base"
    shared.mkdir(parents=True, exist_ok=True)
    link = home / "models" / "base"
    if home.is_dir() and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(shared)
    return jobs.start_attempt(root, request)


def _target(root: Path, request: Json) -> Path:
    kind = request.get("kind")
    if kind not in KINDS:
        raise HostRefusalError(
            f"files of kind {kind!r} are not accepted", "send it with the same version of sem"
        )
    if kind == "code":
        return root / "code" / jobs.folder_name(request, "name")
    if kind == "weights":
        return root / "models" / "base" / jobs.folder_name(request, "name")
    return root / "runs" / jobs.folder_name(request, "sem") / jobs.folder_name(request, "run")


def _refuse_other_run(target: Path, listed: list[Json], request: Json) -> None:
    """A run.json is replaced only by one whose sender knows and means to replace it."""
    last = _last(request)
    entry = next((entry for entry in listed if entry["path"] == last), None)
    here = disk.load_json_file(target / last) if last else None
    is_expected = here is None or here == request.get("replaces")
    if entry and not is_expected and disk.sha256_prefix(target / last) != entry["sha256"]:
        raise HostRefusalError(
            f"{last} on this host is of a different run",
            "prepare a new run, or remove that one on this host",
        )


def _last(request: Json) -> str:
    if request["kind"] != "run":
        return ""
    return f"models/{request['sem']}/adapters/{request['run']}/run.json"


def _label(request: Json) -> str:
    words = [request["kind"], *(jobs.folder_name(request, k) for k in ("name",) if request.get(k))]
    words += [jobs.folder_name(request, k) for k in ("sem", "run") if request.get(k)]
    return "-".join(words)


def _staging(root: Path, request: Json) -> Path:
    folder = root / "incoming" / f"{_label(request)}.tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run_folder(root: Path, request: Json) -> Path:
    sem, run = jobs.folder_name(request, "sem"), jobs.folder_name(request, "run")
    return root / "runs" / sem / run / "models" / sem / "adapters" / run


def _copy_known(root: Path, staging: Path, entries: list[Json]) -> None:
    """Copy what the newest folder of code has already, file by file of the same hash."""
    older = sorted((root / "code").glob("*"), key=lambda path: path.stat().st_mtime)[-1:]
    for entry in entries if older else []:
        source, path = older[0] / entry["path"], staging / entry["path"]
        if not path.exists() and parcel.is_entry(source, entry):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())


def _take_over(lock: IO[bytes]) -> None:
    """Hold `lock`; a receiver whose line is dead may not know that yet, so it is ended."""
    for _ in range(100):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            # The holder of the lock wrote its number, so it is that process.
            if pid.isdigit():
                os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.1)
    else:
        raise HostRefusalError(
            "another process is sending the same files", "wait for it, then run it again"
        )
    lock.truncate(0)
    lock.write(str(os.getpid()).encode())
    lock.flush()


VERBS: dict[str, Callable[[Path, Json], Json]] = {
    "hello": describe_host,
    "has": report_files,
    "offer": list_needed_files,
    "receive": receive_files,
    "send": send_files,
    "list": list_files,
    "start": start_request,
    "tail": jobs.tail_log,
    "cancel": jobs.cancel_attempt,
    "table": jobs.newest_attempts,
    "watch": watch_job,
}
