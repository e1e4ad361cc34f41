"""The jobs of train.* that work on a host: run, attach, status, cancel, pull."""

from dataclasses import replace
from typing import Any

from sem.core import console, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.train.remote import attach as following
from sem.train.remote import hosts
from sem.train.remote import pull as fetching
from sem.train.remote import start as beginning
from sem.train.remote.agent import Agent

COLUMNS = ("run", "attempt", "state", "step", "loss", "log bytes", "heartbeat, s ago")
Json = dict[str, Any]


def run_on_host(
    project: Project, target: Run, host: str, resume: bool, detach: bool, processes: int = 1
) -> int:
    """Push, start, follow and fetch; the exit code of the job there (0: it is fetched)."""
    if target.is_finished:
        raise SemError(
            f"run {target.id} is finished", "prepare a new one with `fab train.prepare`"
        )
    _only_there(target, host)
    host_spec = hosts.find_host(project.root, host)
    host_spec = replace(host_spec, processes=processes) if processes != 1 else host_spec
    begun = beginning.start_on_host(host_spec.agent(host), host_spec, project, target, resume)
    if detach:
        console.note(f"it goes on without us; look with `fab -H {host} train.attach`")
        return 0
    code = attach(project, target, host, begun["attempt"])
    if code == 0:
        pull_from_host(project, target, host, False)
    return code


def attach(project: Project, target: Run, host: str, attempt: str | None = None) -> int:
    """Follow the job of `target` on `host` to its end; its exit code."""
    job = following.follow_job(
        _agent(project, host), project.sem, target.id, _notes(target), attempt
    )
    console.note(f"run {target.id} on {host}: {following.state_words(job)}")
    return int(job["code"])


def pull_from_host(project: Project, target: Run, host: str, with_checkpoints: bool) -> int:
    """Fetch `target` from `host`; how many files came."""
    count = fetching.pull_finished_run(
        _agent(project, host), project.sem, target, with_checkpoints
    )
    console.note(f"run {target.id}: {count} files fetched from {host}, every hash as listed")
    return count


def status(project: Project, host: str) -> list[tuple[object, ...]]:
    """Return a row for every run of the sem on `host`."""
    return [_row(job) for job in _agent(project, host).ask("table", {"sem": project.sem})["jobs"]]


def cancel_on_host(project: Project, target: Run, host: str) -> str:
    """End the job of `target` on `host`; its state then."""
    named = {"sem": project.sem, "run": target.id}
    return following.state_words(_agent(project, host).ask("cancel", named, more_s=60))


def _row(job: Json) -> tuple[object, ...]:
    progress = job["progress"]
    figures = [progress.get(key, "") for key in ("step", "loss")]
    beat = job["heartbeat_s"] if job["state"] == "running" else ""
    return (job["run"], job["attempt"], following.state_words(job), *figures, job["log"], beat)


def _agent(project: Project, host: str) -> Agent:
    return hosts.find_host(project.root, host).agent(host)


def _notes(target: Run) -> Any:
    assert target.folder is not None
    return target.folder / "host"


def _only_there(target: Run, host: str) -> None:
    """Refuse a second host for a run that is on one already: two would train it."""
    path = beginning.where(target)
    sent_host = state.read_state(path, state.Sent)["host"] if path.exists() else host
    if sent_host != host:
        raise SemError(
            f"run {target.id} was sent to {sent_host!r}",
            f"fetch or cancel it there; to move it here remove {path}",
        )
