"""What readers of a format share: the text they make, and how they refuse a file."""

from collections.abc import Callable
from dataclasses import dataclass

# A reader calls it with what it goes on with, in megabytes of text: it gets that much more time.
Step = Callable[[float], None]


@dataclass(frozen=True)
class Text:
    """A document as text, and what was lost or replaced on the way."""

    text: str
    title: str = ""
    notes: tuple[str, ...] = ()


class Refused(Exception):
    """A file that is not read, by `reason`, with `detail` for a person."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def count_note(count: int, what: str) -> tuple[str, ...]:
    """Return a note that names `count` of `what`; none for nothing."""
    return (f"{count:,} {what}",) if count else ()
