"""Documents read in a cage: a separate process with limits of time and memory, and no network.

The parent never parses a stranger's file. It sends bytes and gets text, or the name of a reason;
a file that hangs, swells or crashes its reader takes one worker with it and nothing else.
"""

import base64
from dataclasses import asdict, dataclass
from typing import Any

from sem.core.errors import SemError
from sem.dataset.guard import Worker

SERVE = "from sem.forge.reading.cage import serve; serve()"
MIB = 1 << 20


@dataclass(frozen=True)
class Reading:
    """`params.documents` of forge.yaml: what a document may cost."""

    max_bytes: int = 10_000_000  # a larger file is skipped
    deadline_s: float = 1.5  # processor time; as much again for each megabyte and each 10 pages
    total_s: float = 60.0  # of a whole document, however long it is
    memory_mib: int = 512  # of the process that reads; less skips large documents

    def __post_init__(self) -> None:
        for name in ("max_bytes", "deadline_s", "total_s", "memory_mib"):
            if getattr(self, name) <= 0:
                raise SemError(f"{name}: {getattr(self, name)}", "write a number above 0")


@dataclass(frozen=True)
class Made:
    """What a file became: a text with notes, or the reason why there is none."""

    text: str = ""
    title: str = ""
    notes: tuple[str, ...] = ()
    page: str = ""  # the markup of an HTML file, where it was asked for
    reason: str | None = None
    detail: str = ""


class Converter:
    """One caged reader; use it as a context manager."""

    def __init__(self, limits: Reading | None = None) -> None:
        self._worker = Worker({"limits": asdict(limits or Reading())}, SERVE)

    def __enter__(self) -> "Converter":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop()

    def read(self, kind: str, data: bytes, page: bool = False) -> Made:
        """DATA, a file of KIND txt, md, html, pdf or docx, as text; with PAGE its markup, too."""
        packed = base64.b64encode(data).decode("ascii")
        self._worker.send({"kind": kind, "data": packed, "page": page})
        answer: dict[str, Any] = self._worker.receive()
        reason = answer.get("reason")
        if reason:
            # The guard's own words are about pages; here the whole file is meant.
            named = reason.replace("page_", "document_")
            return Made(reason=named, detail=str(answer.get("detail", ""))[:300])
        return Made(answer["text"], answer["title"], tuple(answer["notes"]), answer["page"])
