"""configs/optimizer/serve.yaml: what the service listens on, how much it takes, how it runs."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from sem.core import settings
from sem.core.errors import SemError
from sem.lm.api import redact

KEY = "SEM_API_KEY"
FILE = Path("configs") / "optimizer" / "serve.yaml"


@dataclass(frozen=True)
class ServeSettings:
    """The service; the file says of each setting what moves when you move it."""

    host: str = "127.0.0.1"
    port: int = 8000
    weights: str = "float32"
    threads: int = 2
    max_batch: int = 16
    max_wait_ms: int = 5
    max_waiting: int = 64
    max_prompts: int = 32
    max_length: int = 512
    max_chars: int = 4_000
    max_body_bytes: int = 65_536
    max_connections: int = 512
    timeout_s: float = 30.0
    read_timeout_s: float = 5.0
    drain_s: int = 35
    retry_s: float = 5.0
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    feedback_mib: int = 64
    log_prompts: bool = False

    def __post_init__(self) -> None:
        for name, low, high in RANGES:
            if not low <= getattr(self, name) <= high:
                raise SemError(f"{name}: {getattr(self, name)!r}", f"use {low} to {high}")
        if self.max_prompts > self.max_waiting:
            raise SemError(
                f"max_prompts: {self.max_prompts}, more than max_waiting: {self.max_waiting}",
                "no such batch could ever be taken: lower the first or raise the second",
            )
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


RANGES: tuple[tuple[str, float, float], ...] = (
    ("port", 0, 65_535),
    ("threads", 1, 256),
    ("max_batch", 1, 256),
    ("max_wait_ms", 0, 1_000),
    ("max_waiting", 1, 10_000),
    ("max_prompts", 1, 1_000),
    ("max_length", 1, 512),
    ("max_chars", 1, 100_000),
    ("max_body_bytes", 1_024, 16_777_216),
    ("max_connections", 8, 10_000),
    ("timeout_s", 0.1, 600),
    ("read_timeout_s", 0.1, 600),
    ("drain_s", 1, 600),
    ("retry_s", 0.05, 3_600),
    ("feedback_mib", 1, 10_240),
)


def load_serve_settings(root: Path, overrides: tuple[str, ...] = ()) -> ServeSettings:
    """Return the settings of the tree `root`; `overrides` are `serve.KEY=VALUE`."""
    return settings.load_settings(
        ServeSettings, root / FILE, settings.strip_override_prefix("serve", overrides)
    )


def api_key(config: ServeSettings) -> str | None:
    """Return the key that requests must show, from the environment; None for none.

    Raise SemError when other machines than this one could ask without a key.
    """
    key = os.environ.get(KEY, "").strip() or None
    if key is None and not config.is_loopback:
        raise SemError(
            f"host {config.host!r} is open to other machines, and no key is asked for",
            f"set {KEY} in the environment, or host: 127.0.0.1",
        )
    if key is not None and len(key) < 16:
        raise SemError(f"{KEY} has {len(key)} characters", "use 16 or more, drawn at random")
    if key is not None:
        redact.mask_secret(key)
    return key
