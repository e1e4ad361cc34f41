"""The inside of a cage for documents: reads what it is sent, within limits it sets itself."""

import base64
import re
import resource
import signal
import sys
import time
from typing import Any

from sem.dataset import text
from sem.dataset.clean import frames
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
# Of the wall clock; many times the processor time, so that a busy machine rejects nothing.
WALL_FACTOR = 15
HEADING = re.compile(r"^#{1,6}[ \t]++(.{1,200}+)", re.M)
TITLE_WITHIN = 4_000
# Characters of text that a byte of the largest file may become.
GROWTH = 2
# What no reader of a document has a reason to do.
FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "ftplib.",
    "smtplib.",
    "urllib.",
    "http.",
    "webbrowser.",
    "ctypes.",
)


def serve_documents() -> None:
    """Read documents from stdin until it ends; the limits come first. Runs in the worker."""
    options = frames.read_frame(sys.stdin.buffer) or {}
    limits = ReadingLimits(**options["limits"])
    _warm(options["papers"])
    # Libraries map far more than they use: what is resident, and may yet be, is what counts.
    mapped, resident = frames.process_memory()
    cap = mapped + max(64 << 20, (limits.memory_mib << 20) - resident)
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(_forbid)
    frames.write_frame(sys.stdout.buffer, {})
    while (request := frames.read_frame(sys.stdin.buffer)) is not None:
        answer = _answer(request, limits)
        _set_timers(0)
        frames.write_frame(sys.stdout.buffer, answer)


def _warm(papers: str) -> None:
    """Load what readers need before the limits count it, and before loading is forbidden."""
    if papers == "pdf":
        import pypdf  # noqa: F401
    if papers == "docx":
        import mammoth  # noqa: F401
    plain.read_plain_text("ein Gefäß voller Möglichkeiten".encode("cp1252"), lambda _: None)
    html.page_document_lines("<p>warm</p>")


def _forbid(event: str, _: Any) -> None:
    if event.startswith(FORBIDDEN):
        raise RejectedDocumentError("document_forbidden", f"reading it would {event}")


def _answer(request: dict[str, Any], limits: ReadingLimits) -> dict[str, Any]:
    kind = request["kind"]
    try:
        document = READERS[kind](base64.b64decode(request["data"]), _clock(limits))
        page = _page(kind, request["data"]) if request.get("page") else ""
        return _told(document, limits) | {"page": page}
    except RejectedDocumentError as refused:
        return {"reason": refused.reason, "detail": refused.detail}
    except MemoryError:
        return {"reason": "document_memory", "detail": f"more than {limits.memory_mib} MiB"}
    except RecursionError:
        return {"reason": "document_depth", "detail": "nested deeper than its reader can go"}
    except Exception as error:  # readers raise dozens of classes, bare ones too
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return {"reason": f"{kind}_unreadable", "detail": detail[:300]}


def _page(kind: str, data: str) -> str:
    decoded = charset.decode_page(base64.b64decode(data)).text if kind == "html" else ""
    return text.INVISIBLE.sub("", decoded)


def _told(document: DocumentText, limits: ReadingLimits) -> dict[str, Any]:
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
        _set_timers(max(0.01, allowed - (time.process_time() - began)))

    return step


def _set_timers(seconds: float) -> None:
    # The default action of both signals ends the process even inside a parser written in C.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * WALL_FACTOR)
