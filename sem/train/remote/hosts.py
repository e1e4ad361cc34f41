"""configs/hosts.yaml: the hosts that train for us, and what each may be used for."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sem.core import settings
from sem.core.errors import SemError
from sem.core.net.ssh import SshHost, check_host
from sem.train.remote.agent import Agent


@dataclass(frozen=True)
class Host:
    """One host; every key has the default that a host which is not listed gets."""

    # [user@]name, or a Host of the ssh configuration.
    address: str | None = None
    port: int | None = None
    ssh_config: str | None = None
    folder: str = "sem"
    # Has everything; null: set up from the lock.
    python: str | None = None
    device: Literal["cpu", "cuda", "rocm"] | None = None
    gpus: str | None = None  # CUDA_VISIBLE_DEVICES
    # That train a run together, one a GPU.
    processes: int = 1
    weights: Literal["push", "fetch"] = "push"
    max_hours: float | None = None
    stop_after_idle_minutes: float | None = None
    stop: Literal["nothing"] | list[str] = "nothing"

    def __post_init__(self) -> None:
        if self.address is not None:
            check_host(self.address)
        if not self.folder or self.folder.startswith(("-", "~")) or not self.folder.isprintable():
            raise SemError(
                f"folder {self.folder!r}", "write a path below the home folder, or an absolute one"
            )
        if self.port is not None and not 0 < self.port < 65_536:
            raise SemError(f"port {self.port}", "write a number from 1 to 65535")
        if not 0 < self.processes < 65:
            raise SemError(f"processes {self.processes}", "write one for each GPU, 1 to 64")
        for key in ("max_hours", "stop_after_idle_minutes"):
            if getattr(self, key) is not None and not 0 < getattr(self, key) < 100_000:
                raise SemError(f"{key} {getattr(self, key)}", "write a number above 0")
        if self.gpus is not None and not re.fullmatch(r"\d+(,\d+)*", self.gpus):
            raise SemError(f"gpus {self.gpus!r}", 'write their numbers, as "0" or "0,1"')
        if (self.stop != "nothing") != (self.stop_after_idle_minutes is not None):
            raise SemError(
                "stop and stop_after_idle_minutes need each other", "set both, or neither"
            )

    def agent(self, named: str = "") -> Agent:
        """Return how this host, which -H calls `named`, is asked."""
        assert self.address is not None
        config = str(Path(self.ssh_config).expanduser()) if self.ssh_config else None
        far = SshHost(self.address, config, self.port)
        return Agent(far, self.folder, self.python or "python3", alias=named)


@dataclass(frozen=True)
class Hosts:
    """All hosts by the name that -H takes."""

    hosts: dict[str, Host] = field(default_factory=dict)


def find_host(root: Path, named: str) -> Host:
    """Return the host `named` as `[user@]name[:port]`.

    An entry of hosts.yaml, or ssh's own name.
    """
    match = re.fullmatch(r"(?:([^@]*)@)?(.*?)(?::(\d{1,5}))?", named, re.S)
    assert match is not None
    user, name, port = match.groups()
    check_host(f"{user}@{name}" if user is not None else name)
    hosts = settings.load_settings(Hosts, root / "configs" / "hosts.yaml").hosts
    host = hosts.get(name, Host())
    address = host.address or name
    if user is not None:
        address = f"{user}@{address.rpartition('@')[2]}"
    return replace(host, address=address, port=int(port) if port else host.port)
