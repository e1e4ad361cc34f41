"""Text files of rows: JSON lines, one JSON list, CSV; packed by gzip or not.

Every row comes with the place it stands at. What cannot be read goes to TOLD.refuse(where,
reason); a file that cannot be read at all is a SemError.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError

# One JSON list read element by element, so that its size does not matter.

BLOCK = 1 << 20
MARK = re.compile(r'["\[\]{},]')
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.S)
MOST_MARKS = 2_000_000
SPACE = " \t\r\n\ufeff"


class JsonTextStream:
    """UTF-8 text of `file`, of which a window is held; the rest is read when it is asked for."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held, self._ended = "", False
        # Of the element, of what was looked at.
        self._start = self._at = 0

    def starts_list(self) -> bool:
        """Return whether the first character that is not a space opens a list."""
        while not self._held.strip(SPACE) and self._more():
            pass
        return self._held.lstrip(SPACE).startswith("[")

    def rest(self, limit: int) -> str:
        """Return everything there is; SemError beyond `limit` characters."""
        while self._more():
            if len(self._held) > limit:
                raise self._fault(f"longer than {limit:,} characters and no list")
        return self._held.lstrip("\ufeff")

    def elements(self, reporter: Any) -> Iterator[tuple[str, Any]]:
        """Yield (place, value) of each element; `reporter` refuses one that is not strict JSON."""
        self._start = self._held.index("[") + 1
        number, closed = 0, False
        while not closed:
            text, closed = self._element()
            if closed and not number and not text.strip(SPACE):
                break
            number += 1
            try:
                value = jsonio.parse_json(text)
            except ValueError as error:
                reporter.refuse(f"row {number}", f"not_json: {error}"[:200])
                continue
            yield f"row {number}", value
        self._check_end()

    def _check_end(self) -> None:
        self._held = self._held[self._start :]
        while not self._held.strip(SPACE):
            self._held = ""
            if not self._more():
                return
        raise self._fault("something follows the list")

    def _element(self) -> tuple[str, bool]:
        """Return the text of the next element, and whether the list ends after it."""
        depth = marks = 0
        self._at = self._start
        while True:
            match = MARK.search(self._held, self._at)
            if match is None:
                self._at = len(self._held)
                self._need()
                continue
            mark, self._at, marks = match[0], match.end(), marks + 1
            if mark == '"':
                self._at = match.start()
                self._skip_string()
            elif depth == 0 and mark in ",]":
                text = self._held[self._start : match.start()]
                self._start = self._at
                return text, mark == "]"
            else:
                depth += 1 if mark in "[{" else -(mark in "]}")
            if marks > MOST_MARKS:
                raise self._fault(f"an element of more than {MOST_MARKS:,} values")

    def _skip_string(self) -> None:
        while (whole := STRING.match(self._held, self._at)) is None:
            self._need()
        self._at = whole.end()

    def _need(self) -> None:
        """Read on; what stands before the element is let go."""
        self._held = self._held[self._start :]
        self._at, self._start = self._at - self._start, 0
        if len(self._held) > jsonio.MAX_CHARS:
            raise self._fault(f"an element is longer than {jsonio.MAX_CHARS:,} characters")
        if not self._more():
            raise self._fault("it ends inside its list")

    def _more(self) -> bool:
        if self._ended:
            return False
        # As much again as is held: a long string is looked through a few times, not hundreds.
        data = self._file.read(max(BLOCK, len(self._held)))
        self._ended = not data
        try:
            self._held += self._decoder.decode(data, self._ended)
        except UnicodeDecodeError as error:
            raise self._fault(f"not UTF-8: {error.reason}") from error
        return not self._ended

    def _fault(self, why: str) -> SemError:
        return SemError(
            f"{self._path}: not JSON: {why}",
            "write large sets as JSON lines: one row per line, in .jsonl",
        )


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
class ReadReporter:
    """Where a reader says what it refused, and what it took for granted."""

    refuse: Callable[[str, str], None]
    note: Callable[[str], None] = _nothing


@contextmanager
def open_unpacked(path: Path) -> Iterator[Any]:
    """The bytes of `path`, unpacked where its name ends in .gz, stopped where they are a bomb."""
    if not path.name.lower().endswith(".gz"):
        with path.open("rb") as file:
            yield file
        return
    with gzip.open(path, "rb") as file:
        yield _CappedFile(file, max(MIN_CAP, MAX_RATIO * path.stat().st_size), path)


class _CappedFile:
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
                "if you trust it, unpack it yourself",
            )
        return data


def iter_jsonl_rows(path: Path, reporter: ReadReporter) -> Iterator[Row]:
    """Yield every line of `path` that is a JSON value; the others are refused by their number."""
    with open_unpacked(path) as file:
        for where, line in _lines(file, reporter):
            if line.strip():
                try:
                    yield where, jsonio.parse_json(line)
                except ValueError as error:
                    reporter.refuse(where, f"not_json: {error}"[:200])


def _lines(file: Any, reporter: ReadReporter) -> Iterator[tuple[str, str]]:
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


def iter_json_array(path: Path, reporter: ReadReporter) -> Iterator[Row]:
    """Yield the elements of the JSON list in `path`, or of the one an object there holds as
    `rows`.
    """

    with open_unpacked(path) as file:
        source = JsonTextStream(file, path)
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
            f"{path}: not JSON: {error}",
            "write large sets as JSON lines: one row per line, in .jsonl",
        ) from error
