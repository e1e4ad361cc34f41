"""Documents read in a sandbox: a separate process with limits of time and memory, and no network.

The parent never parses a stranger's file. It sends bytes and gets text, or the name of a reason;
a file that hangs, swells or crashes its reader takes one worker with it and nothing else.
"""

import base64
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sem.core import sandbox
from sem.dataset import text
from sem.dataset.ingest import charset
from sem.forge.reading import docx, html, pdf, plain
from sem.forge.reading.refusals import DocumentText, ReadingLimits, RejectedDocumentError, Step

READERS = {
    "txt": plain.read_plain_text,
    "md": plain.read_plain_text,
    "html": html.read_html,
    "pdf": pdf.read_pdf,
    "docx": docx.read_docx,
}
# Formats whose libraries take half a second to load.
PAPERS = ("pdf", "docx")
HEADING = re.compile(r"^#{1,6}[ \t]++(.{1,200}+)", re.M)
TITLE_WITHIN = 4_000
# Characters of text that a byte of the largest file may become.
GROWTH = 2


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
    """Sandboxed readers: one for texts and pages, one for PDF, one for Word; a context manager."""

    def __init__(self, limits: ReadingLimits | None = None) -> None:
        self._limits = limits or ReadingLimits()
        # Started when the first file of their kinds comes.
        self._workers: dict[str, sandbox.Worker] = {}

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
        answer = worker.receive()
        return ConvertedFile(**{**answer, "notes": tuple(answer.get("notes", ()))})

    def worker(self, kind: str) -> sandbox.Worker:
        """Return what reads files of `kind`."""
        papers = kind if kind in PAPERS else ""
        if papers not in self._workers:
            setup = {"limits": asdict(self._limits), "papers": papers}
            limits = sandbox.JobLimits(self._limits.deadline_s, self._limits.memory_mib)
            self._workers[papers] = sandbox.Worker(prepare_readers, setup, limits, "document")
        return self._workers[papers]


def prepare_readers(setup: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what reads a file within the limits in `setup`. Runs in a worker."""
    limits = ReadingLimits(**setup["limits"])
    if setup["papers"] == "pdf":
        import pypdf  # noqa: F401
    if setup["papers"] == "docx":
        import mammoth  # noqa: F401
    plain.read_plain_text("ein Gefäß voller Möglichkeiten".encode("cp1252"), lambda _: None)
    html.page_document_lines("<p>warm</p>")
    return lambda job: _answer(job, limits)


def _answer(job: dict[str, Any], limits: ReadingLimits) -> dict[str, Any]:
    kind = job["kind"]
    try:
        data = base64.b64decode(job["data"])
        document = READERS[kind](data, _clock(limits))
        page = charset.decode_page(data).text if job["page"] and kind == "html" else ""
        return _visible(document, limits) | {"page": text.INVISIBLE.sub("", page)}
    except RejectedDocumentError as rejected:
        return _rejection(rejected.reason, rejected.detail)
    except sandbox.ForbiddenError as event:
        return _rejection("document_forbidden", f"reading it would {event}")
    except MemoryError:
        return _rejection("document_memory", f"more than {limits.memory_mib} MiB")
    except RecursionError:
        return _rejection("document_depth", "nested deeper than its reader can go")
    except Exception as error:  # readers raise dozens of classes, bare ones too
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return _rejection(f"{kind}_unreadable", detail)


def _rejection(reason: str, detail: str) -> dict[str, Any]:
    return {"reason": reason, "detail": detail[:300]}


def _visible(document: DocumentText, limits: ReadingLimits) -> dict[str, Any]:
    """Return `document` without characters that nobody sees but a model reads."""
    if len(document.text) > GROWTH * limits.max_bytes:
        raise RejectedDocumentError("document_bomb", f"{len(document.text):,} characters of text")
    visible, removed = text.INVISIBLE.subn("", document.text)
    if not visible.strip():
        raise RejectedDocumentError("empty", "no text in it")
    notes = [*document.notes, *([f"{removed:,} invisible characters removed"] if removed else [])]
    heading = HEADING.search(visible, 0, TITLE_WITHIN)
    title = text.single_line(document.title) or (text.single_line(heading[1]) if heading else "")
    return {"text": visible, "title": title, "notes": notes}


def _clock(limits: ReadingLimits) -> Step:
    """Return what sets the time that is left: of all steps so far, and never beyond the whole."""
    began, allowed = time.process_time(), limits.deadline_s

    def step(megabytes: float) -> None:
        nonlocal allowed
        allowed = min(allowed + limits.deadline_s * megabytes, limits.total_s)
        sandbox.set_timers(max(0.01, allowed - (time.process_time() - began)))

    return step
