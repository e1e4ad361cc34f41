"""Text files of rows: JSON lines, one JSON list, CSV; packed by gzip or not.

A line that cannot be read goes to REFUSE(where, reason); a file that cannot be read is a SemError.
"""

import csv
import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError

Refuse = Callable[[str, str], None]

MAX_LINE = 64_000_000
MAX_RATIO = 200  # of unpacked to packed bytes; text packs 3 to 20 times
MIN_CAP = 1 << 26


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    if path.name.lower().endswith(".gz"):
        with gzip.open(path, "rb") as file:
            yield _Capped(file, max(MIN_CAP, MAX_RATIO * path.stat().st_size), path)
    else:
        with path.open("rb") as file:
            yield file


class _Capped:
    """A binary file that stops a bomb: more than LIMIT bytes unpacked is an error."""

    def __init__(self, file: Any, limit: int, path: Path) -> None:
        self._file, self._left, self._path = file, limit, path

    def readline(self, size: int = -1) -> bytes:
        return self._spend(self._file.readline(size))

    def read(self, size: int = -1) -> bytes:
        return self._spend(self._file.read(min(size, self._left + 1) if size >= 0 else size))

    def _spend(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise SemError(
                f"{self._path}: unpacks to more than {MAX_RATIO} times its size",
                "unpack it yourself if you trust it",
            )
        return data


def _lines(file: Any, path: Path, refuse: Refuse) -> Iterator[str]:
    number = 0
    try:
        while line := file.readline(MAX_LINE):
            number += 1
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                refuse(f"line {number}", "not_utf8")
    except (OSError, EOFError) as error:
        raise SemError(f"{path}: cannot be read: {error}", "copy the file again") from error


def _jsonl(file: Any, path: Path, refuse: Refuse) -> Iterator[Any]:
    for number, line in enumerate(_lines(file, path, refuse), 1):
        if line.strip():
            try:
                yield jsonio.loads(line)
            except ValueError as error:
                refuse(f"line {number}", f"not_json: {error}"[:200])


def _array(file: Any, path: Path, refuse: Refuse) -> Iterator[Any]:
    text = file.read(jsonio.MAX_CHARS + 1)
    try:
        value = jsonio.loads(text.decode("utf-8-sig"))
    except (ValueError, EOFError) as error:
        raise SemError(
            f"{path}: not JSON: {error}", "large sets are JSON lines: one row a line, in .jsonl"
        ) from error
    if isinstance(value, dict):
        value = next((value[key] for key in ("examples", "rows", "data") if key in value), None)
    if not isinstance(value, list):
        raise SemError(f"{path}: holds no list of rows", "write [{…}, {…}]")
    yield from value


def _csv(file: Any, path: Path, refuse: Refuse) -> Iterator[Any]:
    csv.field_size_limit(MAX_LINE)
    lines = _lines(file, path, refuse)
    head = next(lines, "")
    mark = max(",;\t|", key=head.count)
    names = next(csv.reader([head], delimiter=mark), [])
    if len(set(names)) != len(names) or len(names) < 2:
        raise SemError(f"{path}: the first line names no columns, or one twice", "add a header")
    try:
        for number, cells in enumerate(csv.reader(lines, delimiter=mark, strict=True), 2):
            if cells and len(cells) != len(names):
                refuse(f"row {number}", f"has {len(cells)} cells, not {len(names)}")
            elif cells:
                yield {name: cell or None for name, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise SemError(f"{path}: not usable CSV: {error}", 'quote cells with ""') from error


READERS = {"jsonl": _jsonl, "ndjson": _jsonl, "json": _array, "csv": _csv}
