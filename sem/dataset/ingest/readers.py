"""Text files of rows: JSON lines, one JSON list, CSV; packed by gzip or not.

Every row comes with the place it stands at. What cannot be read goes to TOLD.refuse(where,
reason); a file that cannot be read at all is a SemError.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError

MAX_LINE = 64_000_000
# Of unpacked to packed bytes; text packs 3 to 20 times.
MAX_RATIO = 200
MIN_CAP = 1 << 26
LISTS = ("examples", "rows", "data")
# Where it stands, what is there.
Row = tuple[str, Any]


def _nothing(_: str) -> None:
    """Forget a note."""


@dataclass(frozen=True)
class Told:
    """Where a reader says what it refused, and what it took for granted."""

    refuse: Callable[[str, str], None]
    note: Callable[[str], None] = _nothing


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The bytes of `path`, unpacked where its name ends in .gz, stopped where they are a bomb."""
    if not path.name.lower().endswith(".gz"):
        with path.open("rb") as file:
            yield file
        return
    with gzip.open(path, "rb") as file:
        yield _Capped(file, max(MIN_CAP, MAX_RATIO * path.stat().st_size), path)


class _Capped:
    """A packed file that stops a bomb: more than `limit` bytes unpacked is an error."""

    def __init__(self, file: Any, limit: int, path: Path) -> None:
        self._file, self._budget, self._path = file, limit, path

    def readline(self, size: int = -1) -> bytes:
        return self._spend(self._file.readline, size)

    def read(self, size: int = -1) -> bytes:
        return self._spend(self._file.read, min(size, self._budget + 1) if size >= 0 else size)

    def _spend(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            data = read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise SemError(
                f"{self._path}: cannot be read: {error}", "copy the file again"
            ) from error
        self._budget -= len(data)
        if self._budget < 0:
            raise SemError(
                f"{self._path}: unpacks to more than {MAX_RATIO} times its size",
                "unpack it yourself if you trust it",
            )
        return data


def jsonl(path: Path, reporter: Told) -> Iterator[Row]:
    """Yield every line of `path` that is a JSON value; the others are refused by their number."""
    with opened(path) as file:
        for where, line in _lines(file, reporter):
            if line.strip():
                try:
                    yield where, jsonio.parse_json(line)
                except ValueError as error:
                    reporter.refuse(where, f"not_json: {error}"[:200])


def _lines(file: Any, reporter: Told) -> Iterator[tuple[str, str]]:
    number = 0
    while data := file.readline(MAX_LINE):
        number += 1
        if len(data) == MAX_LINE and not data.endswith(b"\n"):
            reporter.refuse(f"line {number}", f"longer than {MAX_LINE:,} bytes")
            while (data := file.readline(MAX_LINE)) and not data.endswith(b"\n"):
                pass
            continue
        try:
            yield f"line {number}", data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            reporter.refuse(f"line {number}", "not_utf8")


def array(path: Path, reporter: Told) -> Iterator[Row]:
    """Yield the elements of the JSON list in `path`, or of the one an object there holds as
    `rows`.
    """
    from sem.dataset.ingest import json_array

    with opened(path) as file:
        source = json_array.Source(file, path)
        if source.starts_list():
            yield from source.elements(reporter)
            return
        value = _whole(source.rest(jsonio.MAX_CHARS), path)
    if isinstance(value, dict):
        value = next((value[key] for key in LISTS if key in value), None)
    if not isinstance(value, list):
        raise SemError(f"{path}: holds no list of rows", "write [{…}, {…}]")
    yield from ((f"row {number}", row) for number, row in enumerate(value, 1))


def _whole(text: str, path: Path) -> Any:
    try:
        return jsonio.parse_json(text)
    except ValueError as error:
        raise SemError(
            f"{path}: not JSON: {error}", "large sets are JSON lines: one row a line, in .jsonl"
        ) from error
