"""One run in processes on several hosts: a Ray cluster places them, one a GPU.

What the processes do is the same as on one host (`several`); Ray finds room for them, starts them
and tells how each ended. They share the run's folder, so it has to be one folder on every host,
at the same path, as the code and its environment; `several.joined` checks that it is.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.core.project import ROOT
from sem.dataset.clean import ray_engine
from sem.train.parallel import launch

# How long room for all processes is waited for.
ROOM_S = 120.0
# The exit code of a process whose host is gone.
LOST = -9
# What of this command's environment the processes get; keys stand in each host's own .env.
PASSED = ("SEM_ROOT", "SEM_DEVICE", "SEM_OFFLINE", "WANDB_MODE", "HF_HUB_OFFLINE")
# PR_SET_PDEATHSIG of prctl(2).
ENDS_WITH_PARENT = 1


def start_on_cluster(argv: Sequence[str], count: int, address: str, gpus: bool) -> int:
    """Run `argv` in `count` processes on the cluster at `address`.

    Return the most telling exit code.
    """
    launch.check_process_count(count)
    ray = _joined(address)
    try:
        children: list[ClusterProcess] = []
        with launch.passed_on(children):
            children += _placed(ray, argv, count, gpus)
            return launch.wait_for_children(children)
    finally:
        ray.shutdown()


class ProcessSeat:
    """A place for one process, on whichever host Ray has put it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def where(self) -> tuple[str, str, int]:
        """Return the id and address of this host, and a port that is free on it."""
        import ray

        with socket.socket() as listener:
            listener.bind(("", 0))
            port = int(listener.getsockname()[1])
        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), port

    def begin(self, argv: Sequence[str], env: dict[str, str]) -> str:
        """Start `argv` in Python; what is missing here, empty when nothing is."""
        if argv[0] != "-m" and not Path(argv[0]).is_file():
            return f"{socket.gethostname()}: no {argv[0]} there"
        whole = {**os.environ, **env}
        # Ray sets it to the share it gave this seat.
        whole.pop("OMP_NUM_THREADS", None)
        out = None if env["RANK"] == "0" else subprocess.DEVNULL
        command = [sys.executable, *argv]
        self._process = subprocess.Popen(command, env=whole, stdout=out, preexec_fn=_tied)
        return ""

    def poll(self) -> int | None:
        return self._process.poll() if self._process else None

    def signal(self, kind: int) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(kind)


def _tied() -> None:
    """Let the system end this process as a stopped job when its seat, or the driver, dies."""
    import ctypes

    ctypes.CDLL(None).prctl(ENDS_WITH_PARENT, signal.SIGTERM)


class ClusterProcess:
    """The process in a Seat, told as subprocess.Popen tells a child."""

    def __init__(self, ray: Any, seat: Any) -> None:
        self._ray, self._seat = ray, seat

    def poll(self) -> int | None:
        try:
            return self._ray.get(self._seat.poll.remote())
        except self._ray.exceptions.RayError:
            return LOST

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (timeout or 0.0)
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired("a process of the cluster", timeout)
            time.sleep(launch.LOOK_S)
        return code

    def send_signal(self, kind: int) -> None:
        # Not waited for: this is called by a signal handler.
        self._seat.signal.remote(kind)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _joined(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise SemError(
            f"--ray-address: {error}", "install the extra: pip install 'opensem[cluster]'"
        ) from error
    ray_engine.reach_cluster(address, "--ray-address")
    try:
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SemError(
            f"--ray-address: no cluster at {address}: {str(error)[:200]}",
            "check `ray status` there; HOST:6379 from one of its hosts, else ray://HOST:10001",
        ) from error
    return ray


def _placed(ray: Any, argv: Sequence[str], count: int, gpus: bool) -> list[ClusterProcess]:
    """Return `count` processes that run `argv`, in the order of their ranks."""
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    share = {"CPU": 1, "GPU": 1} if gpus else {"CPU": 1}
    group = placement_group([share] * count, strategy="PACK")
    if not group.wait(ROOM_S):
        resources = {name: ray.cluster_resources().get(name, 0) for name in share}
        raise SemError(
            f"--processes {count}: no room on the cluster within {ROOM_S:.0f} s; "
            f"it has {resources}",
            "wait for other jobs, or ask for fewer",
        )
    seat_class = ray.remote(num_cpus=1, num_gpus=share.get("GPU", 0))(ProcessSeat)
    strategy = PlacementGroupSchedulingStrategy(group)
    seats = [seat_class.options(scheduling_strategy=strategy).remote() for _ in range(count)]
    places = ray.get([seat.where.remote() for seat in seats])
    hosts = list(dict.fromkeys(node for node, _, _ in places))
    order = sorted(range(count), key=lambda n: (hosts.index(places[n][0]), n))
    nodes = [places[n][0] for n in order]
    _, first, port = places[order[0]]
    errors = ray.get(
        [
            seats[n].begin.remote(list(argv), _told(rank, nodes, gpus) | _master(first, port))
            for rank, n in enumerate(order)
        ]
    )
    if any(errors):
        raise SemError(
            next(filter(None, errors)), "give every host the same tree at the same path"
        )
    return [ClusterProcess(ray, seats[n]) for n in order]


def _master(host: str, port: int) -> dict[str, str]:
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {"MASTER_ADDR": host, "MASTER_PORT": str(port), **passed}


def _told(rank: int, nodes: Sequence[str], gpus: bool) -> dict[str, str]:
    """Return who process `rank` is, as torchrun says it; `nodes` are those of all, in order."""
    here = [n for n, node in enumerate(nodes) if node == nodes[rank]]
    # Ray shows each process its own GPU alone, which is the first one that it sees.
    local, size = (0, 1) if gpus else (here.index(rank), len(here))
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(len(nodes)),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(size),
    }
