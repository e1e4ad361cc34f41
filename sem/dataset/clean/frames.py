"""Between a guard and its workers: frames of a length and JSON, never pickle; their memory."""

import json
import resource
import struct
from pathlib import Path
from typing import IO, Any


def write_frame(pipe: IO[bytes], value: dict[str, Any]) -> None:
    """Send `value` through `pipe` as one frame."""
    # BrokenPipe: the worker died; its exit code is read where its answer is awaited.
    body = json.dumps(value).encode("ascii")
    try:
        pipe.write(struct.pack(">Q", len(body)) + body)
        pipe.flush()
    except BrokenPipeError:
        return


def read_frame(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Return the next frame of `pipe`; None when it ended."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size = struct.unpack(">Q", head)[0]
    body = pipe.read(size)
    return json.loads(body) if len(body) == size else None


def process_memory(pid: int | str = "self") -> tuple[int, int]:
    """Bytes that process `pid` has mapped and has resident; (0, 0) where /proc does not tell."""
    try:
        mapped, resident = Path(f"/proc/{pid}/statm").read_text().split()[:2]
    except OSError:
        return 0, 0
    return int(mapped) * resource.getpagesize(), int(resident) * resource.getpagesize()
