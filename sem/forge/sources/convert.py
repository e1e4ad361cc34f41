"""Documents read in a cage: a separate process with limits of time and memory, and no network.

The parent never parses a stranger's file. It sends bytes and gets text, or the name of a reason;
a file that hangs, swells or crashes its reader takes one worker with it and nothing else.
"""

import base64
from dataclasses import asdict, dataclass
from typing import Any

from sem.dataset.clean.worker_pool import WorkerProcess
from sem.forge.reading.refusals import ReadingLimits

SERVE = "from sem.forge.reading.cage import serve_documents; serve_documents()"
# Formats whose libraries take half a second to load.
PAPERS = ("pdf", "docx")


@dataclass(frozen=True)
class ConvertedFile:
    """What a file became: a text with notes, or the reason why there is none."""

    text: str = ""
    title: str = ""
    notes: tuple[str, ...] = ()
    # The markup of an HTML file, where it was asked for.
    page: str = ""
    reason: str | None = None
    detail: str = ""


class Converter:
    """Caged readers: one for texts and pages, one for PDF, one for Word; a context manager."""

    def __init__(self, limits: ReadingLimits | None = None) -> None:
        self._limits = asdict(limits or ReadingLimits())
        # Started when the first file of their kinds comes.
        self._workers: dict[str, WorkerProcess] = {}

    def __enter__(self) -> "Converter":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.stop()

    def read(self, kind: str, data: bytes, page: bool = False) -> ConvertedFile:
        """Return `data`, a file of `kind` txt, md, html, pdf or docx, as text.

        With `page` its markup, too.
        """
        packed = base64.b64encode(data).decode("ascii")
        worker = self.worker(kind)
        worker.send({"kind": kind, "data": packed, "page": page})
        answer: dict[str, Any] = worker.receive()
        reason = answer.get("reason")
        if reason:
            # The guard's own words are about pages; here the whole file is meant.
            named = reason.replace("page_", "document_")
            return ConvertedFile(reason=named, detail=str(answer.get("detail", ""))[:300])
        return ConvertedFile(
            answer["text"], answer["title"], tuple(answer["notes"]), answer["page"]
        )

    def worker(self, kind: str) -> WorkerProcess:
        """Return what reads files of `kind`."""
        papers = kind if kind in PAPERS else ""
        if papers not in self._workers:
            start = {"limits": self._limits, "papers": papers}
            self._workers[papers] = WorkerProcess(start, SERVE)
        return self._workers[papers]
