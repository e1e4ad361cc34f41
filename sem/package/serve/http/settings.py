"""What the server of a package listens on and how much it takes: `--set serve.KEY=VALUE`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sem.core import settings
from sem.lm.server.settings import HttpSettings

# Keys, separated by commas, of which a request must show one.
KEYS = "SEM_SERVE_KEYS"


@dataclass(frozen=True)
class ExpertSettings(HttpSettings):
    """The server of a package; what it shares with other servers stands in HttpSettings."""

    RANGES: ClassVar[tuple[tuple[str, float, float], ...]] = (
        *HttpSettings.RANGES,
        ("capture_mib", 1, 10_240),
        ("capture_files", 1, 10_000),
    )

    # Pages answered at once: together by Transformers, where each waits for the longest answer;
    # by llama.cpp each in a slot of its own.
    max_batch: int = 8
    # Of a request; JSON may take six bytes for a character of a page.
    max_body_bytes: int = 16 << 20
    # At once, each with a body in memory; beyond it 503.
    max_connections: int = 128
    # From arrival to answer; later 503.
    timeout_s: float = 120.0
    # For a request's headers and for its body; slower clients are cut off.
    read_timeout_s: float = 30.0
    # After SIGTERM, for what was accepted; then the process ends.
    drain_s: int = 125
    # Of one file of captures; then the next one begins.
    capture_mib: int = 64
    # Files of captures in their folder; then nothing more is captured.
    capture_files: int = 16
    # True: an answer is captured as the reference, to be trained on without a person's look.
    capture_references: bool = False


def expert_settings(overrides: Sequence[str], flags: dict[str, Any]) -> ExpertSettings:
    """Return the settings that `overrides` (`serve.KEY=VALUE`) and `flags` without None make."""
    values: dict[str, Any] = {}
    for pair in settings.strip_override_prefix(ExpertSettings.PREFIX, overrides):
        settings.apply_override(values, pair)
    values |= {name: value for name, value in flags.items() if value is not None}
    return settings.build_settings(ExpertSettings, values, "serve")
