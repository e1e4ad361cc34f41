"""configs/optimizer/serve.yaml: what the service listens on, how much it takes, how it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sem.core import settings
from sem.core.errors import SemError
from sem.lm.server.settings import HttpSettings

KEY = "SEM_API_KEY"
FILE = Path("configs") / "optimizer" / "serve.yaml"


@dataclass(frozen=True)
class ServeSettings(HttpSettings):
    """The service; the file says of each setting what moves when you move it."""

    RANGES: ClassVar[tuple[tuple[str, float, float], ...]] = (
        *HttpSettings.RANGES,
        ("threads", 1, 256),
        ("max_prompts", 1, 1_000),
        ("max_length", 1, 512),
        ("max_chars", 1, 100_000),
        ("retry_s", 0.05, 3_600),
        ("feedback_mib", 1, 10_240),
    )

    weights: str = "float32"
    threads: int = 2
    max_prompts: int = 32
    max_length: int = 512
    max_chars: int = 4_000
    retry_s: float = 5.0
    feedback_mib: int = 64
    log_prompts: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_prompts > self.max_waiting:
            raise SemError(
                f"max_prompts: {self.max_prompts}, more than max_waiting: {self.max_waiting}",
                "no such batch could ever be taken: lower the first or raise the second",
            )


def load_serve_settings(root: Path, overrides: tuple[str, ...] = ()) -> ServeSettings:
    """Return the settings of the tree `root`; `overrides` are `serve.KEY=VALUE`."""
    return settings.load_settings(
        ServeSettings, root / FILE, settings.strip_override_prefix("serve", overrides)
    )
