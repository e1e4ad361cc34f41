"""What readers of a format share: the text they make, and how they refuse a file."""

from collections.abc import Callable
from dataclasses import dataclass

from sem.core.errors import SemError

# What a document may cost to read; the sandboxed process knows it, too, and little else.


@dataclass(frozen=True)
class ReadingLimits:
    """`params.documents` of forge.yaml: what a document may cost."""

    # a larger file is skipped.
    max_bytes: int = 10_000_000
    # Processor time; as much again for each megabyte and each 10 pages.
    deadline_s: float = 1.5
    # Of a whole document, however long it is.
    total_s: float = 60.0
    # Of the process that reads; less skips large documents.
    memory_mib: int = 512

    def __post_init__(self) -> None:
        for name in ("max_bytes", "deadline_s", "total_s", "memory_mib"):
            if getattr(self, name) <= 0:
                raise SemError(f"{name}: {getattr(self, name)}", "write a number above 0")


# A reader calls it with what it goes on with, in megabytes of text: it gets that much more time.
Step = Callable[[float], None]


@dataclass(frozen=True)
class DocumentText:
    """A document as text, and what was lost or replaced on the way."""

    text: str
    title: str = ""
    notes: tuple[str, ...] = ()


class RejectedDocumentError(Exception):
    """A file that is not read, by `reason`, with `detail` for a person."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def count_note(count: int, what: str) -> tuple[str, ...]:
    """Return a note that names `count` of `what`; none for nothing."""
    return (f"{count:,} {what}",) if count else ()
