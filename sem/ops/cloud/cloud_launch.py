"""Train a run on a rented GPU through SkyPilot: cost first, resumed when taken away, then ended.

SkyPilot needs another `click` than wandb, so it runs as a tool in an environment of its own.
"""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sem.core import console, files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run, finished_run_error
from sem.ops.cloud import cloud_task
from sem.ops.cloud.cloud_task import CloudMachine

SKY = ("uvx", "--from", "skypilot[{cloud}]==0.14.1", "sky")
UNKNOWN = "cost unknown: ask `sky show-gpus`"
# How often checkpoints are fetched while it trains: what a lost machine costs.
LOOK_S = 300.0
# Machines that may be taken away before it is given up.
ATTEMPTS = 5


@dataclass(frozen=True)
class CloudTools:
    """The programs that are called, as argv; another `sky` where one is installed already."""

    sky: tuple[str, ...]
    rsync: tuple[str, ...] = ("rsync", "-rt", "--partial")

    @classmethod
    def of(cls, cloud: str) -> "CloudTools":
        extra = cloud.partition("/")[0]
        return cls(tuple(word.format(cloud=extra) for word in SKY))

    def call(self, *words: str) -> int:
        """Run sky with `words`, its output as it comes; the exit code."""
        return _run([*self.sky, *words])


def write_cloud_task(project: Project, run: Run, machine: CloudMachine) -> Path:
    """Stage what `run` needs and write its task; the path of the YAML."""
    if run.folder is None or run.is_finished:
        raise finished_run_error(run)
    home = project.root / "models" / project.sem / "cloud" / run.id
    listed = cloud_task.stage_run_files(project, run, home / "workdir")
    size = sum(entry["size"] for entry in listed)
    console.print_note(f"to send: {len(listed):,} files, {size:,} bytes; no key is among them")
    document = cloud_task.build_cloud_task(project, run, machine, home / "workdir")
    return files.write_file(home / "task.yaml", cloud_task.task_yaml(document))


def refuse_cpu(run: Run) -> None:
    """Raise SemError when `run` would leave the GPU idle.

    The device is part of what was prepared.
    """
    device = run.plan()["hardware"]["device"]
    if device != "cuda":
        raise SemError(
            f"run {run.id} was prepared for a {device}",
            "prepare one with `fab train.prepare --device cuda`",
        )


def show_rental_price(tools: CloudTools, path: Path) -> bool:
    """Show what SkyPilot would rent for the task in `path` and its price; whether it could say."""
    if tools.call("launch", "--dryrun", "--yes", str(path)) == 0:
        return True
    console.print_note(UNKNOWN)
    return False


def train_on_cloud(project: Project, run: Run, machine: CloudMachine, tools: CloudTools) -> bool:
    """Rent, train, fetch and end; whether the run is finished here.

    However this ends, by an error or ^C too, the machine is ended; it also ends itself when idle.
    """
    if not machine.max_cost:
        raise SemError("no --max-cost", "say how many dollars this run may cost at most")
    name = cloud_task.name_of(project, run)
    came = project.root / "models" / project.sem / "cloud" / run.id / "came"
    with _rented(tools, name):
        for attempt in range(1, ATTEMPTS + 1):
            path = write_cloud_task(project, run, machine)
            if not show_rental_price(tools, path):
                raise SemError(UNKNOWN, "nothing was rented; check `sky check`")
            with _fetching(project, run, tools, came):
                code = tools.call("launch", "--yes", "--down", "--cluster", name, str(path))
            reached = fetch_run(project, run, tools, came)
            if cloud_task.accept_cloud_results(run, came):
                return True
            if reached or not machine.spot:
                raise SemError(
                    f"run {run.id} did not finish in the cloud (sky ended with {code})",
                    "continue from its checkpoints: `fab ops.launch` or `fab train.resume`",
                )
            console.print_note(
                f"machine {attempt} was taken away: continuing from the last checkpoint"
            )
            tools.call("down", "--yes", name)
    raise SemError(f"{ATTEMPTS} machines were taken away", "leave --spot out, or try later")


def fetch_run(project: Project, run: Run, tools: CloudTools, came: Path) -> bool:
    """Copy the run's folder from the machine to `came`; whether it could be reached."""
    came.mkdir(parents=True, exist_ok=True)
    name = cloud_task.name_of(project, run)
    remote_path = f"{name}:sky_workdir/models/{project.sem}/adapters/{run.id}/"
    return _run([*tools.rsync, remote_path, f"{came}/"]) == 0


@contextmanager
def _rented(tools: CloudTools, name: str) -> Iterator[None]:
    try:
        yield
    finally:
        if tools.call("down", "--yes", name) != 0:
            console.print_note(
                f"sky did not confirm that {name} is gone: look with `sky status`; it ends "
                f"itself after {cloud_task.IDLE_MINUTES} idle minutes"
            )


@contextmanager
def _fetching(project: Project, run: Run, tools: CloudTools, came: Path) -> Iterator[None]:
    """Fetch checkpoints again and again as long as this is open."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            fetch_run(project, run, tools, came)

    worker = threading.Thread(target=look, daemon=True)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


def _run(argv: Sequence[str]) -> int:
    try:
        return subprocess.run(argv, check=False, stdin=subprocess.DEVNULL).returncode
    except FileNotFoundError as error:
        raise SemError(
            f"no `{argv[0]}` on this machine", "install uv (pip install uv) and rsync"
        ) from error
