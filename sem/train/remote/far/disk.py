"""Small files that are whole or absent, and the refusal that both ends understand."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


class HostRefusalError(Exception):
    """What cannot be done and what a person can do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def write_json_file(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON in one step."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(json_line(value))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_far_path(path.parent)


def load_json_file(path: Path) -> Any:
    """Return the JSON value of `path`; None when it is not there or torn."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def json_line(value: Any) -> bytes:
    """Return `value` as JSON of one line."""
    return json.dumps(value, sort_keys=True).encode("ascii")


def parse_line(line: bytes) -> Any:
    """Return the JSON value in `line`; None when it is none."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def sync_far_path(path: Path) -> None:
    """Make the content of the file `path`, or the renames in the folder `path`, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_prefix(path: Path, length: int | None = None) -> str:
    """Return the hex digest of the file at `path`, or of its first `length` bytes."""
    digest, bytes_left = hashlib.sha256(), length
    with path.open("rb") as file:
        while block := file.read(1 << 20 if bytes_left is None else min(1 << 20, bytes_left)):
            digest.update(block)
            bytes_left = None if bytes_left is None else bytes_left - len(block)
    return digest.hexdigest()
