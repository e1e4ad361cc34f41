"""Which process is meant: a number alone may be another one's after a while or a reboot."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any


def boot_id() -> str:
    """Return what changes when this machine starts anew; '' where it is not told."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text("utf-8").strip() if path.exists() else ""


def process_start_ticks(pid: int) -> str | None:
    """When `pid` began, in clock ticks; '' where it is not told, None when there is no `pid`."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        # Ended, and nobody asked how.
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        # No such process, or a system without /proc.
        pass
    with suppress(OSError):
        os.kill(pid, 0)
        return None if Path("/proc/self").exists() else ""
    return None


def process_mark(pid: int) -> dict[str, Any]:
    """Return what finds the process `pid` again."""
    return {"pid": pid, "started": process_start_ticks(pid), "boot": boot_id()}


def is_alive(mark: dict[str, Any] | None) -> bool:
    """Return whether the process that `mark` describes still runs."""
    if not mark or mark["boot"] != boot_id():
        return False
    return mark["started"] is not None and process_start_ticks(mark["pid"]) == mark["started"]


def end_group(mark: dict[str, Any], number: signal.Signals) -> None:
    """Send `number` to the session that the process of `mark` leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(mark["pid"], number)
