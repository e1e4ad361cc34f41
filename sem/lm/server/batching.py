"""The line before a model: bounded, answered in batches by threads of its own.

One thread has the model to itself; a model that answers several requests at once by itself is
called by as many threads, each with a batch of one. The event loop answers /health meanwhile. A
batch holds requests of the same kind, the oldest first; whoever left or is late is passed over.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sem.lm.server import refusal
from sem.lm.server.metrics import Metrics
from sem.lm.server.refusal import RequestRefusalError
from sem.lm.server.settings import HttpSettings

log = logging.getLogger("sem.serve")
Item = TypeVar("Item")
Answer = TypeVar("Answer")
# What a batch is answered by: its items, their kind, and `watch(row, token)`, where somebody
# wants to hear tokens; it returns True when nobody waits for that row any more.
AnswerBatch = Callable[[Sequence[Item], Any, Callable[[int, int], bool] | None], Sequence[Answer]]


@dataclass(eq=False)
class WaitingItem(Generic[Item, Answer]):
    """One request in line; `on_token` hears each of its tokens, on the event loop."""

    item: Item
    kind: Any
    # Of time.monotonic.
    deadline: float
    answer: "asyncio.Future[Answer]"
    on_token: Callable[[int], None] | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def is_wanted(self) -> bool:
        """Return whether somebody still waits for it."""
        return not self.answer.done() and time.monotonic() < self.deadline


class BatchQueue(Generic[Item, Answer]):
    """Items that wait for `answer_batch`, which is called in threads of the line's own.

    `failed`: the refusal of a batch whose answering raised. `threads`: how many call it at once;
    beyond one, each takes a single item, and none waits for company.
    """

    def __init__(
        self,
        settings: HttpSettings,
        answer_batch: AnswerBatch[Item, Answer],
        failed: Callable[[], RequestRefusalError],
        metrics: Metrics,
        items: str,
        threads: int = 1,
    ) -> None:
        self.settings, self.items = settings, items
        self._max_batch = settings.max_batch if threads == 1 else 1
        self._company_s = settings.max_wait_ms / 1000 if threads == 1 else 0.0
        self._answer_batch, self._failed = answer_batch, failed
        self._metrics = metrics
        self._waiting: deque[WaitingItem[Item, Answer]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work, name=f"model-{number}", daemon=True)
            for number in range(threads)
        ]
        metrics.waiting.set_function(lambda: len(self))
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def refuse_when_full(self) -> RequestRefusalError | None:
        """Return the refusal of one item more, where the line takes none."""
        waiting = len(self)
        if waiting < self.settings.max_waiting:
            return None
        return refusal.queue_full_refusal(waiting, self.items)

    def enter(
        self,
        items: Sequence[Item],
        kind: Any = None,
        on_token: Callable[[int], None] | None = None,
    ) -> list["asyncio.Future[Answer]"]:
        """Put all `items` in line, or none: refuse with 429 when they do not fit."""
        most = self.settings.max_waiting
        with self._changed:
            if len(self._waiting) + len(items) > most:
                self._drop_unwanted()
            if len(self._waiting) + len(items) > most:
                raise refusal.queue_full_refusal(len(self._waiting), self.items)
            end = time.monotonic() + self.settings.timeout_s
            entries: list[WaitingItem[Item, Answer]] = [
                WaitingItem(item, kind, end, self._loop.create_future(), on_token)
                for item in items
            ]
            self._waiting += entries
            self._changed.notify(len(entries))
        return [entry.answer for entry in entries]

    async def wait(
        self, waiting: Sequence["asyncio.Future[Answer]"], departure: "asyncio.Future[Any]"
    ) -> list[Answer]:
        """Return what `waiting` comes to.

        Raise RequestRefusalError when the client leaves (`departure`) or time runs out first.
        """
        end = time.monotonic() + self.settings.timeout_s
        pending = set(waiting)
        try:
            while pending:
                if departure.done():
                    raise refusal.client_left_refusal()
                spare = max(0.0, end - time.monotonic())
                finished, _ = await asyncio.wait(
                    {*pending, departure}, timeout=spare, return_when=asyncio.FIRST_COMPLETED
                )
                if not finished:
                    raise refusal.timeout_refusal(self.settings.timeout_s)
                pending -= finished
            answers = [future.result() for future in waiting]
        finally:
            departure.cancel()
            for future in waiting:
                # Takes what is still in line out of it; a failure of several is told once.
                if not future.cancel() and not future.cancelled():
                    future.exception()
        self._metrics.answered.inc(len(waiting))
        return answers

    def stop(self, within_s: float) -> bool:
        """Take nobody new, answer who is in line; whether that was done `within_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        end = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _drop_unwanted(self) -> None:
        entries = [entry for entry in self._waiting if entry.is_wanted]
        self._metrics.passed_over.inc(len(self._waiting) - len(entries))
        self._waiting = deque(entries)

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            self._serve(batch)

    def _next(self) -> list[WaitingItem[Item, Answer]] | None:
        """Return the next batch; None when the line is empty and stopping."""
        with self._changed:
            while True:
                self._drop_unwanted()
                if not self._waiting:
                    if self._stopping:
                        return None
                    self._changed.wait()
                    continue
                spare = self._waiting[0].since + self._company_s - time.monotonic()
                is_full = len(self._alike()) >= self._max_batch
                if is_full or spare <= 0 or self._stopping:
                    break
                self._changed.wait(spare)
            batch = self._alike()
            batch_ids = set(map(id, batch))
            self._waiting = deque(entry for entry in self._waiting if id(entry) not in batch_ids)
        return batch

    def _alike(self) -> list[WaitingItem[Item, Answer]]:
        first = self._waiting[0].kind
        alike = [entry for entry in self._waiting if entry.kind == first]
        return alike[: self._max_batch]

    def _serve(self, batch: list[WaitingItem[Item, Answer]]) -> None:
        self._metrics.batch.observe(len(batch))
        for entry in batch:
            self._metrics.waited.observe(time.monotonic() - entry.since)
        watch = self._watch(batch) if any(entry.on_token for entry in batch) else None
        try:
            answers = self._answer_batch([entry.item for entry in batch], batch[0].kind, watch)
        except Exception:
            log.exception("model_failed", extra={"facts": {"batch": len(batch)}})
            self._tell(self._fail, batch)
            return
        self._tell(self._settle, batch, answers)

    def _watch(self, batch: list[WaitingItem[Item, Answer]]) -> Callable[[int, int], bool]:
        """Return what passes tokens on, and ends the rows that nobody waits for."""

        def watch(row: int, token: int) -> bool:
            on_token = batch[row].on_token
            if on_token is not None:
                self._tell(on_token, token)
            return not batch[row].is_wanted

        return watch

    def _tell(self, callback: Callable[..., Any], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _settle(self, batch: list[WaitingItem[Item, Answer]], answers: Sequence[Answer]) -> None:
        for entry, answer in zip(batch, answers, strict=True):
            if not entry.answer.done():
                entry.answer.set_result(answer)

    def _fail(self, batch: list[WaitingItem[Item, Answer]]) -> None:
        for entry in batch:
            if not entry.answer.done():
                entry.answer.set_exception(self._failed())
