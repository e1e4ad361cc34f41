"""What a sandboxed job must not do, each as something a test may ask a worker for."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sem.core.sandbox import ForbiddenError


def loop() -> None:
    while True:
        pass


def swell() -> None:
    bytearray(1 << 30)


DEEDS: dict[str, Callable[[], Any]] = {
    "loop": loop,
    "swell": swell,
    "die": lambda: os._exit(1),
    "socket": socket.socket,
    "process": lambda: subprocess.run([sys.executable, "-V"], check=True),
    "fork": os.fork,
    "shell": lambda: os.system("true"),
    "pid": os.getpid,
    "environment": lambda: sorted(os.environ),
}
HELD: list[bytearray] = []


def prepare_deeds(setup: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    deeds = {**DEEDS, "write": lambda: Path(setup["folder"], "x").write_text("x")}

    def answer(job: dict[str, Any]) -> dict[str, Any]:
        HELD.append(bytearray(job.get("hold", 0)))
        try:
            return {"returned": deeds[job["deed"]]()}
        except (ForbiddenError, MemoryError, OSError) as error:
            return {"raised": type(error).__name__, "detail": str(error)}

    return answer
