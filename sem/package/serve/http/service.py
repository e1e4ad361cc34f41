"""The expert behind the routes: pages that wait together are answered together, in one thread."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from sem.lm.server import routes
from sem.lm.server.batching import BatchQueue
from sem.lm.server.metrics import Metrics
from sem.lm.server.refusal import RequestRefusalError
from sem.package.serve import fallback as fallbacks
from sem.package.serve.expert import (
    Expert,
    Extraction,
    PageQuestion,
    Refusal,
    improve_extraction,
    needs_fallback,
)
from sem.package.serve.fallback import Fallback, FallbackNote
from sem.package.serve.http.capture import CaptureFolder
from sem.package.serve.http.settings import ExpertSettings

log = logging.getLogger("sem.serve")
FIRST_PAGE = "<html><body><h1>Ready</h1><p>1.00</p></body></html>"
# Reason of a refusal -> its status. What is wrong with a page is 4xx: a greedy answer will be the
# same again, and clients repeat what ended with a 5xx by themselves.
STATUSES = {
    "unknown_task": 404,
    "page_size": 413,
    "page_timeout": 504,
    "engine_failed": 503,
}
PAGE_AT_FAULT = 422


def refusal_error(extraction: Extraction) -> RequestRefusalError:
    """Return the HTTP answer of an extraction that was refused: its JSON, with a status."""
    refusal = extraction.refusal
    assert refusal is not None
    status = STATUSES.get(refusal.reason, PAGE_AT_FAULT)
    retry_after_s = 5 if status == 503 else None
    # An engine's own words may hold paths, and are in the log.
    message = "the engine failed; try again" if status == 503 else refusal.message
    body = extraction.as_json()
    body["refusal"] = {"reason": refusal.reason, "message": message}
    return RequestRefusalError(status, refusal.reason, message, retry_after_s, **body)


def _engine_failed_refusal() -> RequestRefusalError:
    return RequestRefusalError(503, "engine_failed", "the engine failed; try again", 5)


@dataclass
class ExpertService:
    """A loaded expert and the line before it."""

    expert: Expert
    settings: ExpertSettings
    # Of the package.
    name: str
    capture: CaptureFolder | None = None
    metrics: Metrics = field(default_factory=lambda: Metrics("sem_expert", "pages"))
    # Why it is not ready; None once a page was answered and its answer kept to the schema.
    fault: str | None = "the first request is not answered yet"
    line: BatchQueue[PageQuestion, Extraction] | None = None
    # Asked beside the line: its seconds are nobody else's.
    fallback: Fallback | None = None
    not_captured: Any = field(init=False)
    fallen_back: Any = field(init=False)
    fallback_tokens: Any = field(init=False)
    _strong: ThreadPoolExecutor | None = None
    _capturing: threading.Lock = field(default_factory=threading.Lock)
    _first: "asyncio.Future[Extraction] | None" = None

    def __post_init__(self) -> None:
        self.not_captured = self.metrics.add_counter(
            "not_captured", "Answered pages for which the folder of captures had no room"
        )
        self.fallen_back = self.metrics.add_counter(
            "fallback", "Pages by what became of asking the strong model", ("status",)
        )
        self.fallback_tokens = self.metrics.add_counter(
            "fallback_tokens", "Tokens of the strong model", ("side",)
        )
        if self.fallback:
            workers = self.fallback.settings.workers
            self._strong = ThreadPoolExecutor(workers, "fallback")

    def start(self) -> None:
        """Open the line and ask the first request; on the event loop."""
        self.line = BatchQueue(
            self.settings,
            self._answer,
            _engine_failed_refusal,
            self.metrics,
            "pages",
            self.expert.engine.slots,
        )
        self.metrics.loaded.set(1)
        self.ask_first()

    async def stop(self) -> None:
        """Answer who is in line, then end."""
        if self.line:
            await asyncio.to_thread(self.line.stop, self.settings.timeout_s)
        if self._strong:
            self._strong.shutdown(wait=False, cancel_futures=True)
        self.expert.close()

    @property
    def tasks(self) -> list[str]:
        """Return the tasks of the package, sorted."""
        return sorted(self.expert.contract.tasks)

    def refuse_when_full(self) -> RequestRefusalError | None:
        """Return the refusal of one page more, where the line takes none."""
        return self.line.refuse_when_full() if self.line else None

    def ask_first(self) -> None:
        """Ask a tiny page where the expert is not ready, unless that waits already."""
        is_asked = self._first is not None and not self._first.done()
        if self.fault is None or is_asked or self.line is None or self.refuse_when_full():
            return
        (self._first,) = self.line.enter([PageQuestion(FIRST_PAGE, self.tasks[0])])
        # Nobody awaits it: a failure was noted in `fault`.
        self._first.add_done_callback(lambda future: future.cancelled() or future.exception())

    async def extract(self, question: PageQuestion, request: Any) -> Extraction:
        """Return what becomes of `question`, unless the client of `request` leaves.

        Raise RequestRefusalError where that is no value.
        """
        assert self.line is not None
        began = time.monotonic()
        waiting = self.line.enter([question])
        self.metrics.accepted.inc()
        departure = asyncio.ensure_future(routes.wait_for_departure(request))
        (extraction,) = await self.line.wait(waiting, departure)
        if self.fallback:
            left_s = self.settings.timeout_s - (time.monotonic() - began)
            extraction = await self._improved(question, extraction, self.fallback, left_s)
        if extraction.refusal:
            raise refusal_error(extraction)
        return extraction

    async def _improved(
        self, question: PageQuestion, own: Extraction, strong: Fallback, left_s: float
    ) -> Extraction:
        """Return `own`, or the answer of `strong` where it is needed and comes in `left_s`."""
        extraction = replace(own, fallback=FallbackNote(fallbacks.NOT_NEEDED))
        # A sure answer does not wait in the line of unsure ones.
        if needs_fallback(own, strong):
            loop, tasks = asyncio.get_running_loop(), self.expert.contract.tasks
            work = loop.run_in_executor(self._strong, improve_extraction, own, tasks, strong)
            try:
                extraction = await asyncio.wait_for(work, max(0, left_s))
            except TimeoutError:
                late = FallbackNote(fallbacks.FAILED, "timeout", strong.settings.model.model)
                extraction = replace(own, fallback=late)
        note = extraction.fallback
        assert note is not None
        if note.status == fallbacks.FAILED:
            facts = {"reason": note.reason, "detail": note.detail}
            log.warning("fallback_failed", extra={"facts": facts})
        self.fallen_back.labels(note.status).inc()
        if not note.cached:
            self.fallback_tokens.labels("in").inc(note.tokens_in)
            self.fallback_tokens.labels("out").inc(note.tokens_out)
        if self.capture:
            await asyncio.to_thread(self._capture, [(question, extraction)])
        return extraction

    def _capture(self, pairs: Sequence[tuple[PageQuestion, Extraction]]) -> None:
        with self._capturing:
            if self.capture:
                self.not_captured.inc(self.capture.append(pairs))

    def _answer(self, questions: Sequence[PageQuestion], _: Any, __: Any) -> list[Extraction]:
        """Answer a batch, and note what it says of the engine; in the thread of the line."""
        extractions = self._extracted(questions)
        pairs = list(zip(questions, extractions, strict=True))
        for question, extraction in pairs:
            self.metrics.tokens.labels("in").inc(extraction.tokens_in)
            self.metrics.tokens.labels("out").inc(extraction.tokens_out)
            self._note(question, extraction)
        if not self.fallback:
            self._capture([pair for pair in pairs if not _is_first(pair[0])])
        return extractions

    def _extracted(self, questions: Sequence[PageQuestion]) -> list[Extraction]:
        """Return an extraction of each of `questions`; where the engine fails, of each alone."""
        try:
            extractions = self.expert.extract_many(questions)
        except Exception as error:
            log.exception("batch_failed", extra={"facts": {"batch": len(questions)}})
            refusal = Refusal("engine_failed", type(error).__name__)
            extractions = [Extraction(q.task or "", refusal=refusal) for q in questions]
        if len(questions) == 1:
            return extractions
        # One page must not cost its neighbours their answers.
        return [
            self._extracted([question])[0] if _has_engine_failed(extraction) else extraction
            for question, extraction in zip(questions, extractions, strict=True)
        ]

    def _note(self, question: PageQuestion, extraction: Extraction) -> None:
        """Note whether the engine works, as `extraction` shows."""
        refusal = extraction.refusal
        if refusal is None:
            self.fault = None
        elif _has_engine_failed(extraction):
            log.error("engine_failed", extra={"facts": {"detail": refusal.detail}})
            self.fault = "the engine failed on the latest page"
        elif _is_first(question):
            self.fault = f"the first request was refused: {refusal.reason}"


def _is_first(question: PageQuestion) -> bool:
    # The same object: a client may send the same text.
    return question.page is FIRST_PAGE


def _has_engine_failed(extraction: Extraction) -> bool:
    return extraction.refusal is not None and extraction.refusal.reason == "engine_failed"
