"""Frames between a guard and its workers: a length and JSON, never pickle."""

import json
import struct
from typing import IO, Any


def write(pipe: IO[bytes], value: dict[str, Any]) -> None:
    """Send VALUE through PIPE as one frame."""
    # BrokenPipe: the worker died; its exit code is read where its answer is awaited.
    body = json.dumps(value).encode("ascii")
    try:
        pipe.write(struct.pack(">Q", len(body)) + body)
        pipe.flush()
    except BrokenPipeError:
        return


def read(pipe: IO[bytes]) -> dict[str, Any] | None:
    """The next frame of PIPE; None when it ended."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size = struct.unpack(">Q", head)[0]
    body = pipe.read(size)
    return json.loads(body) if len(body) == size else None
