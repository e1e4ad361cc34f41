"""What a tracker is, which are asked for, and what is cleaned out of what they are told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sem.lm.api import redact

USER = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True)
class Tracking:
    """The mode of each tracker, and where offline ones write."""

    modes: tuple[tuple[str, str], ...] = ()
    project: str = "sem"
    folder: Path = Path("reports")

    @property
    def active(self) -> dict[str, str]:
        """Return the trackers that are not `none`, by name."""
        return {name: mode for name, mode in self.modes if mode != "none"}


class Tracker(Protocol):
    """One place that rows go to."""

    def open(self, facts: Mapping[str, Any]) -> None: ...
    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self, is_good: bool) -> None: ...


def clean_tracked_text(text: str) -> str:
    """Return `text` on one short line, without keys and without what stands before the @ of an
    address.
    """
    return USER.sub("//", redact.redact_secrets(" ".join(text.split())))[:200]
