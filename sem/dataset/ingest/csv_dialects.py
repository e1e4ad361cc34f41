"""CSV as it is found: other encodings, delimiters and line ends; ragged rows by line number."""

import codecs
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.dataset.ingest import charset, readers
from sem.dataset.ingest.readers import ReadReporter, Row

HEAD = 1 << 16
# characters; also of a cell.
MAX_LINE = 32_000_000
# Rows that decide on the delimiter.
SAMPLE = 50
DELIMITERS = ",;\t|"
BLOCK = 1 << 20
BAD = re.compile("[\ud800-\udfff]")
WIDE_BAD = re.compile("\ufffd")


def read_csv_rows(path: Path, reporter: ReadReporter) -> Iterator[Row]:
    """Yield the rows of the CSV file at `path` as dicts; an empty cell is None."""
    with readers.open_unpacked(path) as file:
        encoding = charset.of_file(file)
    with readers.open_unpacked(path) as file:
        head = file.read(HEAD)
    if encoding not in ("utf-8", "utf-8-sig"):
        reporter.note(f"{path.name} is read as {encoding}")
    start = head.decode(encoding, "replace")
    with readers.open_unpacked(path) as file:
        lines = _Lines(file, path, encoding, _line_end(start))
        yield from _cells(lines, path, detect_delimiter(start), reporter)


def detect_delimiter(text: str) -> str:
    """Return the one of `,;TAB|` by which most of the first rows of `text` are as wide as their
    header.
    """

    def fit(mark: str) -> tuple[float, int]:
        lines = text.splitlines(keepends=True)[: SAMPLE + 1]
        widths = [len(cells) for cells in csv.reader(lines, delimiter=mark) if cells]
        if not widths or widths[0] < 2:
            return 0.0, 0
        return sum(width == widths[0] for width in widths) / len(widths), widths[0]

    csv.field_size_limit(MAX_LINE)
    return max(DELIMITERS, key=fit)


def _line_end(text: str) -> str:
    return "\r" if "\r" in text and "\n" not in text else "\n"


def _cells(lines: "_Lines", path: Path, mark: str, reporter: ReadReporter) -> Iterator[Row]:
    names, count = None, 0
    reader = csv.reader(lines, delimiter=mark, strict=True)
    try:
        for cells in reader:
            where = f"line {lines.number}"
            if not any(cell.strip() for cell in cells):
                continue
            count += 1
            if names is None and any(map(lines.is_bad, cells)):
                raise SemError(
                    f"{path}: the first line is not {lines.encoding}", "save it as UTF-8"
                )
            if names is None:
                names = _header([cell.strip() for cell in cells], path)
            elif len(cells) != len(names):
                reporter.refuse(where, f"has {len(cells)} cells, not {len(names)}")
            elif bad := [n for n, cell in zip(names, cells, strict=True) if lines.is_bad(cell)]:
                reporter.refuse(where, f"not_{lines.encoding}: {bad[0]}{_id_of(names, cells)}")
            else:
                yield where, {n: cell or None for n, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise SemError(
            f"{path}: not usable CSV: line {lines.number}: {error}", 'quote cells with ""'
        ) from error
    if names is None:
        raise SemError(f"{path}: the first line names no columns", "add a header")
    if count == 1:
        raise SemError(f"{path}: has a header and no rows", "was it cut off? copy it again")


def _id_of(names: list[str], cells: list[str]) -> str:
    """Return the id of a row that is refused, where it has one that can be shown."""
    named = dict(zip(names, cells, strict=True)).get("id", "")
    return f" of id {named}" if named.isprintable() and 0 < len(named) <= 80 else ""


def _header(names: list[str], path: Path) -> list[str]:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SemError(f"{path}: the first line names the column {twice!r} twice", "rename one")
    return names


class _Lines:
    """Decoded lines of `file` with the number of the one handed out last.

    A line that holds a byte that is not text is handed out, too: it may be the middle of a cell.
    What it spoils is the record, whole.
    """

    def __init__(self, file: Any, path: Path, encoding: str, end: str) -> None:
        self.number = 0
        self._file = file
        # Bytes that are no text come out as lone surrogates; a real U+FFFD stays a character.
        errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._bad = WIDE_BAD if errors == "replace" else BAD
        self.encoding = encoding
        self._path, self._end = path, end
        self._ready: list[str] = []
        self._rest = ""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        while not self._ready:
            self._fill()
        self.number += 1
        return self._ready.pop()

    def is_bad(self, cell: str) -> bool:
        """Return True if a byte of `cell` could not be read."""
        return self._bad.search(cell) is not None

    def _fill(self) -> None:
        # As much again as is held, or a long line would be copied once for each block.
        block = self._file.read(max(BLOCK, len(self._rest)))
        text = self._rest + self._decoder.decode(block, not block)
        if not block and not text:
            raise StopIteration
        *whole, self._rest = text.split(self._end)
        if not block:
            whole, self._rest = [*whole, self._rest], ""
        if len(self._rest) > MAX_LINE:
            raise SemError(f"{self._path}: a line is longer than {MAX_LINE:,}", "is it CSV?")
        self._ready = [f"{line}\n" for line in reversed(whole)]
