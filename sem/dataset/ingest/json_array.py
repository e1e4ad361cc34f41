"""One JSON list read element by element, so that its size does not matter."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError

BLOCK = 1 << 20
MARK = re.compile(r'["\[\]{},]')
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.S)
MOST_MARKS = 2_000_000
SPACE = " \t\r\n\ufeff"


class Source:
    """UTF-8 text of `file`, of which a window is held; the rest is read when it is asked for."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held, self._ended = "", False
        # Of the element, of what was looked at.
        self._start = self._at = 0

    def starts_list(self) -> bool:
        """Return whether the first character that is no space opens a list."""
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
        """(place, value) of each element; one that is no strict JSON goes to `reporter`.refuse."""
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
            "large sets are JSON lines: one row a line, in .jsonl",
        )
