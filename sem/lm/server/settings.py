"""The settings that every server here has, and the keys that it asks for."""

import ipaddress
import os
from dataclasses import dataclass
from typing import ClassVar

from sem.core.errors import SemError
from sem.lm.api import redact

MIN_KEY = 16


@dataclass(frozen=True)
class HttpSettings:
    """Where a server listens, how much it takes and how long it waits."""

    # Where `--set` finds them, as in `serve.port`.
    PREFIX: ClassVar[str] = "serve"
    # Name, least and most.
    RANGES: ClassVar[tuple[tuple[str, float, float], ...]] = (
        ("port", 0, 65_535),
        ("max_batch", 1, 256),
        ("max_wait_ms", 0, 1_000),
        ("max_waiting", 1, 10_000),
        ("max_body_bytes", 1_024, 1 << 26),
        ("max_connections", 8, 10_000),
        ("timeout_s", 0.1, 600),
        ("read_timeout_s", 0.1, 600),
        ("drain_s", 1, 600),
    )

    # Another address: other machines can ask, and a key must be set.
    host: str = "127.0.0.1"
    # 0: any that is free.
    port: int = 8000
    # Requests answered together; each waits for the longest.
    max_batch: int = 16
    # An idle model waits this long for company.
    max_wait_ms: int = 5
    # Requests in line; the next one gets 429.
    max_waiting: int = 64
    # Of a request; read no further.
    max_body_bytes: int = 65_536
    # At once; beyond it 503.
    max_connections: int = 512
    # From arrival to answer; later 503.
    timeout_s: float = 30.0
    # For a request's headers and for its body; slower clients are cut off.
    read_timeout_s: float = 5.0
    # After SIGTERM, for what was accepted; then the process ends.
    drain_s: int = 35
    # Web pages of other addresses that may ask, as https://app.example.
    origins: tuple[str, ...] = ()
    # Further names this server is asked by, as expert.example.
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in self.RANGES:
            if not low <= getattr(self, name) <= high:
                raise SemError(f"{name}: {getattr(self, name)!r}", f"use {low} to {high}")
        wrong = [o for o in self.origins if "*" in o or not o.startswith(("http://", "https://"))]
        if wrong:
            raise SemError(
                f"origins: {wrong[0]!r}", "name each one in full, as https://app.example"
            )

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_server_keys(settings: HttpSettings, variable: str) -> tuple[str, ...]:
    """Return the keys of which requests must show one: `variable`, separated by commas.

    Raise SemError when one is short, or when other machines than this one could ask without.
    """
    keys = tuple(filter(None, (key.strip() for key in os.environ.get(variable, "").split(","))))
    if not keys and not settings.is_loopback:
        raise SemError(
            f"host {settings.host!r} is open to other machines, and no key is asked for",
            f"set {variable} in the environment, or host: 127.0.0.1",
        )
    for key in keys:
        if len(key) < MIN_KEY:
            raise SemError(
                f"{variable} has {len(key)} characters",
                f"use {MIN_KEY} or more a key, drawn at random",
            )
        redact.mask_secret(key)
    return keys
