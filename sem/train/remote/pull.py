"""Fetch a run from a host: into a folder beside, checked twice, then file by file into its place.

The host's list gives a hash for every file; the run's own manifest.json must agree with what came,
and with the run.json that is here. manifest.json is moved last: without it the run is unfinished.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from sem.core import console, files, manifest, state
from sem.core.errors import SemError
from sem.core.run import Run
from sem.train.remote.agent import Agent
from sem.train.remote.far import parcel
from sem.train.remote.far.disk import Refusal

INCOMING = "host/incoming"
Json = dict[str, Any]


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
            f"run {run.id}: run.json on {agent.far.host} is not the one here",
            "it is another run: nothing was fetched",
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
    except Refusal as refusal:
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
        facts = state.read_state(at[manifest.NAME], state.RunManifest)
        if facts.get("run_json_sha256") != files.sha256_file(run.folder / "run.json"):
            raise SemError(
                f"run {run.id}: its manifest names another run.json", "it is another run"
            )
        for name, sha256 in facts["adapter"].items():
            _compare(at.get(f"adapter/{name}"), f"adapter/{name}", sha256)
    for path in [path for path in at if path.endswith(f"/{manifest.NAME}")]:
        folder = path.removesuffix(f"/{manifest.NAME}")
        for name, entry in state.read_state(at[path], state.Sealed)["files"].items():
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
        console.note(f"{folder} is not complete on the host: left out")
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
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        files.sync_path(staging / name)
        os.replace(staging / name, folder / name)
        files.sync_path((folder / name).parent)
    shutil.rmtree(staging)
