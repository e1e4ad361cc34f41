"""GGUF: the header, metadata and tensor table of a file, with every length checked.

The file is hostile until its hash is known: a count or an offset that does not fit the file is
refused before anything is allocated for it. Layout: ggml's docs/gguf.md, versions 2 and 3.
"""

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sem.core.errors import SemError

# Metadata keys, and tensors; the largest open models have about 2,000.
MAX_ENTRIES = 10_000
# bytes; a chat template is the longest honest one.
MAX_STRING = 1 << 20
# values; merges of a 262,144-token vocabulary are about 580,000.
MAX_ARRAY = 4_000_000
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 16

STRING, ARRAY = 8, 9
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
# number in the file -> name, weights per block, bytes per block
KINDS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies: `shape` as PyTorch writes it, `kind` as ggml numbers it."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class Gguf:
    """An opened file: its metadata, its tensors by name, and the mapped bytes."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    content: mmap.mmap

    def bytes_of(self, name: str) -> memoryview:
        """Return the packed blocks of the tensor called `name`."""
        tensor = self.tensors[name]
        return memoryview(self.content)[tensor.start : tensor.start + tensor.size]

    def need(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """Return the metadata value of `key`; raise SemError when it is absent or not a `kind`."""
        value = self.metadata.get(key)
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            raise SemError(f"{self.path.name}: metadata {key!r} is missing or wrong", HINT)
        return value


# Metadata, tensors by name.
Parts = tuple[dict[str, Any], dict[str, Tensor]]

HINT = "it is not a complete GGUF file of a supported model; fetch it again"


def read_gguf_file(path: Path) -> Gguf:
    """Return the GGUF file at `path`.

    Raise SemError when any part of its header cannot be trusted.
    """
    return _opened(path, lambda cursor: cursor.header())


def read_gguf_head(path: Path) -> Gguf:
    """Return the GGUF file at `path` without its tensors.

    It may be cut anywhere after its metadata.
    """
    return _opened(path, lambda cursor: (cursor.start()[1], {}))


def _opened(path: Path, parts: "Callable[[_Cursor], Parts]") -> Gguf:
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise SemError(f"{path.name}: too short for GGUF", HINT)
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        metadata, tensors = parts(_Cursor(content))
    except (ValueError, UnicodeDecodeError, struct.error) as error:
        content.close()
        raise SemError(f"{path.name}: not usable GGUF: {error}", HINT) from error
    return Gguf(path, metadata, tensors, content)


class _Cursor:
    """A reading position that cannot leave the file."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.position = 0

    def header(self) -> "Parts":
        tensor_count, metadata = self.start()
        return metadata, self.tensors(tensor_count, metadata)

    def start(self) -> tuple[int, dict[str, Any]]:
        """Return how many tensors there are, and the metadata that stand before their table."""
        magic, version = self.take(4), self.number("I")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"magic {magic!r}, version {version}")
        tensor_count, key_count = self.number("Q"), self.number("Q")
        if max(tensor_count, key_count) > MAX_ENTRIES:
            raise ValueError(f"{tensor_count} tensors and {key_count} keys")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self.text()
            if key in metadata:
                raise ValueError(f"metadata {key!r} appears twice")
            metadata[key] = self.value(self.number("I"))
        return tensor_count, metadata

    def tensors(self, count: int, metadata: dict[str, Any]) -> dict[str, Tensor]:
        entries = [self.read_entry() for _ in range(count)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= MAX_ALIGNMENT or alignment % 8:
            raise ValueError(f"alignment {alignment!r}")
        base = -(-self.position // alignment) * alignment
        tensors: dict[str, Tensor] = {}
        for name, shape, kind, offset in entries:
            if name in tensors:
                raise ValueError(f"tensor {name!r} appears twice")
            if offset % alignment:
                raise ValueError(f"tensor {name!r} starts at {offset}")
            tensors[name] = self.place(name, shape, kind, base + offset)
        self.refuse_overlaps(tensors)
        return tensors

    def read_entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self.text(), self.number("I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
        return name, shape, self.number("I"), self.number("Q")

    def place(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> Tensor:
        if kind not in KINDS:
            raise ValueError(f"tensor {name!r} is of unsupported kind {kind}")
        _, block, block_bytes = KINDS[kind]
        if min(shape) < 1 or shape[-1] % block:
            raise ValueError(f"tensor {name!r} of shape {shape} is not whole blocks of {block}")
        size = math.prod(shape) // block * block_bytes
        if start + size > len(self.content):
            raise ValueError(f"tensor {name!r} ends {start + size - len(self.content)} bytes late")
        return Tensor(shape, kind, start, size)

    def refuse_overlaps(self, tensors: dict[str, Tensor]) -> None:
        placed = sorted(tensors.values(), key=lambda tensor: tensor.start)
        for first, second in pairwise(placed):
            if first.start + first.size > second.start:
                raise ValueError(f"two tensors share the bytes at {second.start}")

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.position:
            raise ValueError(f"{count} bytes wanted at {self.position}, the file ends before")
        self.position += count
        return self.content[self.position - count : self.position]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        length = self.number("Q")
        if length > MAX_STRING:
            raise ValueError(f"a string of {length} bytes at {self.position}")
        return self.take(length).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self.array(self.number("I"), self.number("Q"))
        if kind not in SCALARS:
            raise ValueError(f"value kind {kind} at {self.position}")
        return self.number(SCALARS[kind])

    def array(self, kind: int, count: int) -> list[Any]:
        if count > MAX_ARRAY:
            raise ValueError(f"an array of {count} values at {self.position}")
        if kind == STRING:
            return [self.text() for _ in range(count)]
        # Arrays of arrays too: no model needs them.
        if kind not in SCALARS:
            raise ValueError(f"an array of kind {kind} at {self.position}")
        code = f"<{count}{SCALARS[kind]}"
        return list(struct.unpack(code, self.take(struct.calcsize(code))))
