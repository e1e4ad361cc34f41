"""The inside of a cage: a process that does the jobs it is sent, within limits it sets itself."""

import resource
import signal
import sys
from typing import Any

from sem.dataset.clean import frames, grounding
from sem.dataset.clean.row_cleaning import RowCleaner, plan_of
from sem.dataset.config import Clean, Near, Pii, TaskOptions
from sem.dataset.html import bombs, markup
from sem.dataset.store.examples_table import RawRow

# Of the wall clock; many times the processor time, so that a busy machine rejects nothing.
WALL_FACTOR = 15


def serve_rows() -> None:
    """Do jobs from stdin until it ends; limits and plan come first. Runs in the worker."""
    setup = frames.read_frame(sys.stdin.buffer) or {}
    plan = plan_of(setup["plan"]) if setup["plan"] else None
    limits = Clean(
        **{**setup["limits"], "default": TaskOptions(), "tasks": {}, "pii": Pii(), "near": Near()}
    )
    worker = RowCleaner(plan, lambda: _set_timers(limits.deadline_s)) if plan else None
    markup.simplify_page("<p>warm</p>")
    # Libraries map far more than they use: what is resident, and may yet be, is what counts.
    mapped, resident = frames.process_memory()
    cap = mapped + max(64 << 20, (limits.memory_mib << 20) - resident)
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    frames.write_frame(sys.stdout.buffer, {})
    while (request := frames.read_frame(sys.stdin.buffer)) is not None:
        # The default action of both signals ends the process even inside the C parser.
        _set_timers(limits.deadline_s)
        if worker is not None and "rows" in request:
            answer = {"made": [vars(worker.make(RawRow(**row))) for row in request["rows"]]}
        else:
            answer = _answer(request, limits)
        _set_timers(0)
        frames.write_frame(sys.stdout.buffer, answer)


def _set_timers(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * WALL_FACTOR)


def _answer(request: dict[str, Any], limits: Clean) -> dict[str, Any]:
    page, options = request["page"], TaskOptions(**request["options"])
    try:
        if options.input != "text" and (reason := bombs.page_fault(page, limits)):
            return {"reason": reason}
        simplified = markup.simplify_page(page, options, request["budget"])
        reference = request["reference"]
        survival = (
            grounding.measure_survival(reference, page, simplified.text)
            if reference is not None
            else {}
        )
    except MemoryError:
        return {"reason": "page_memory"}
    return {
        "text": simplified.text,
        "language": simplified.language,
        "report": simplified.report,
        "survival": survival,
    }
