"""The line before the network: bounded, served in batches by one thread.

The thread holds the network alone; CTranslate2 lets go of the interpreter while it computes, so
the event loop answers /health meanwhile. Batches hold requests of the same decoding, the oldest
first; whoever left or is late is passed over.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sem.optimizer.model.rewriter import Decoding, Rewrite
from sem.optimizer.server import refusal

log = logging.getLogger("sem.serve")


@dataclass(eq=False)
class Waiting:
    """One prompt in line; `told` hears each of its tokens, on the event loop."""

    prompt: str
    decoding: Decoding
    deadline: float  # of time.monotonic
    answer: "asyncio.Future[Rewrite]"
    told: Callable[[int], None] | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def is_wanted(self) -> bool:
        """Return whether somebody still waits for it."""
        return not self.answer.done() and time.monotonic() < self.deadline


@dataclass(frozen=True)
class Bounds:
    """How long the line gets, and how batches are filled."""

    max_waiting: int
    max_batch: int
    max_wait_s: float


class Line:
    """Prompts that wait for `rewrite`, which is called in a thread of the line's own."""

    def __init__(
        self,
        bounds: Bounds,
        rewrite: Callable[..., Sequence[Rewrite]],
        observe: Callable[[str, float], None] = lambda name, value: None,
    ) -> None:
        self.bounds = bounds
        self._rewrite = rewrite
        self._observe = observe
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        timeout_s: float,
        on_token: Callable[[int], None] | None = None,
    ) -> list["asyncio.Future[Rewrite]"]:
        """Put all `prompts` in line, or none: Refusal 429 when they do not fit."""
        with self._changed:
            if len(self._waiting) + len(prompts) > self.bounds.max_waiting:
                self._drop_unwanted()
            if len(self._waiting) + len(prompts) > self.bounds.max_waiting:
                raise refusal.full(len(self._waiting))
            end = time.monotonic() + timeout_s
            entries = [
                Waiting(prompt, decoding, end, self._loop.create_future(), on_token)
                for prompt in prompts
            ]
            self._waiting += entries
            self._changed.notify()
        return [entry.answer for entry in entries]

    def stop(self, within_s: float) -> bool:
        """Take nobody new, answer who is in line; whether that was done `within_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _drop_unwanted(self) -> None:
        entries = [entry for entry in self._waiting if entry.is_wanted]
        self._observe("passed_over", len(self._waiting) - len(entries))
        self._waiting = deque(entries)

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            self._serve(batch)

    def _next(self) -> list[Waiting] | None:
        """Return the next batch; None when the line is empty and stopping."""
        with self._changed:
            while True:
                self._drop_unwanted()
                if not self._waiting:
                    if self._stopping:
                        return None
                    self._changed.wait()
                    continue
                spare = self._waiting[0].since + self.bounds.max_wait_s - time.monotonic()
                if len(self._alike()) >= self.bounds.max_batch or spare <= 0 or self._stopping:
                    break
                self._changed.wait(spare)
            batch = self._alike()
            batch_ids = set(map(id, batch))
            self._waiting = deque(entry for entry in self._waiting if id(entry) not in batch_ids)
        return batch

    def _alike(self) -> list[Waiting]:
        first = self._waiting[0].decoding
        return [entry for entry in self._waiting if entry.decoding == first][
            : self.bounds.max_batch
        ]

    def _serve(self, batch: list[Waiting]) -> None:
        self._observe("batch", len(batch))
        for entry in batch:
            self._observe("waited", time.monotonic() - entry.since)
        watch = self._watch(batch) if any(entry.told for entry in batch) else None
        try:
            prompts = [entry.prompt for entry in batch]
            rewrites = self._rewrite(prompts, batch[0].decoding, watch)
        except Exception:
            log.exception("network_failed", extra={"facts": {"batch": len(batch)}})
            self._tell(_fail, batch)
            return
        self._tell(_settle, batch, rewrites)

    def _watch(self, batch: list[Waiting]) -> Callable[[int, int], bool]:
        """Passes tokens on, and ends the rows that nobody waits for."""

        def watch(row: int, token: int) -> bool:
            on_token = batch[row].told
            if on_token is not None:
                self._tell(on_token, token)
            return not batch[row].is_wanted

        return watch

    def _tell(self, heard: Callable[..., Any], *what: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(heard, *what)


def _settle(batch: list[Waiting], rewrites: Sequence[Rewrite]) -> None:
    for entry, rewrite in zip(batch, rewrites, strict=True):
        if not entry.answer.done():
            entry.answer.set_result(rewrite)


def _fail(batch: list[Waiting]) -> None:
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(refusal.failed())
