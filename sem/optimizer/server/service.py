"""The service behind the routes: prompts in, rewrites with their confidence out."""

import asyncio
import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import Busy
from sem.lm.api import redact
from sem.optimizer.model import confidence
from sem.optimizer.model.rewriter import Decoding, Rewrite
from sem.optimizer.server import network as networks
from sem.optimizer.server import refusal
from sem.optimizer.server.config import ServeSettings
from sem.optimizer.server.metrics import Metrics
from sem.optimizer.server.network import Loading, Network
from sem.optimizer.server.refusal import RequestRefusalError

# The line before the network: bounded, served in batches by one thread.
#
# The thread holds the network alone; CTranslate2 lets go of the interpreter while it computes,
# so the event loop answers /health meanwhile. Batches hold requests of the same decoding, the
# oldest first; whoever left or is late is passed over.


@dataclass(eq=False)
class WaitingPrompt:
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
class QueueBounds:
    """How long the line gets, and how batches are filled."""

    max_waiting: int
    max_batch: int
    max_wait_s: float


class PromptQueue:
    """Prompts that wait for `rewrite`, which is called in a thread of the line's own."""

    def __init__(
        self,
        bounds: QueueBounds,
        rewrite: Callable[..., Sequence[Rewrite]],
        observe: Callable[[str, float], None] = lambda name, value: None,
    ) -> None:
        self.bounds = bounds
        self._rewrite = rewrite
        self._observe = observe
        self._waiting: deque[WaitingPrompt] = deque()
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
                raise refusal.queue_full_refusal(len(self._waiting))
            end = time.monotonic() + timeout_s
            entries = [
                WaitingPrompt(prompt, decoding, end, self._loop.create_future(), on_token)
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

    def _next(self) -> list[WaitingPrompt] | None:
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

    def _alike(self) -> list[WaitingPrompt]:
        first = self._waiting[0].decoding
        return [entry for entry in self._waiting if entry.decoding == first][
            : self.bounds.max_batch
        ]

    def _serve(self, batch: list[WaitingPrompt]) -> None:
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

    def _watch(self, batch: list[WaitingPrompt]) -> Callable[[int, int], bool]:
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


def _settle(batch: list[WaitingPrompt], rewrites: Sequence[Rewrite]) -> None:
    for entry, rewrite in zip(batch, rewrites, strict=True):
        if not entry.answer.done():
            entry.answer.set_result(rewrite)


def _fail(batch: list[WaitingPrompt]) -> None:
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(refusal.network_failed_refusal())


# What people thought of rewrites: appended durably, keys redacted, for the next training run.

log = logging.getLogger("sem.serve")
FILE = Path("data") / "optimizer" / "feedback.jsonl"
SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)


class Feedback:
    """The file `path`, which grows to `most_bytes` and no further."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most_bytes = most_bytes
        # One thread, and of its own: a slow disk holds up feedback alone.
        self._pool = ThreadPoolExecutor(1, "feedback")

    async def keep(self, row: dict[str, Any], model: str | None) -> None:
        """`add` away from the event loop."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self.add, row, model)

    def add(self, row: dict[str, Any], model: str | None) -> None:
        """Append `row` with the time and `model`; Refusal 503 when it cannot be kept."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {k: redact.redact_secrets(v) if isinstance(v, str) else v for k, v in row.items()}
        try:
            with files.lock_file(self.path.with_suffix(".lock"), str(self.path)):
                self._append(entry | {"at": at, "model": model})
        except Busy as error:
            raise RequestRefusalError(
                503, "feedback_busy", "feedback is being read; try again", 1
            ) from error
        except OSError as error:
            if error.errno not in SPACE:
                raise
            log.error("feedback_not_kept", extra={"facts": {"errno": error.errno}})
            raise RequestRefusalError(
                503, "feedback_not_kept", "feedback cannot be kept now", 60
            ) from error

    def _append(self, row: dict[str, Any]) -> None:
        with files.open_for_append(self.path) as file:
            if file.seek(0, 2) + len(str(row)) > self._most_bytes:
                raise RequestRefusalError(503, "feedback_full", "no more feedback is taken", 3_600)
            files.append_row(file, row)


APPROACH = "neural rewriting: a frozen T5 with a trained LoRA adapter, no rules"
MODEL_TYPE = "t5-lora-ctranslate2"


@dataclass
class Service:
    """What runs: the network once it is loaded, and the line before it."""

    config: ServeSettings
    root: Path
    load: Any  # () -> Network
    metrics: Metrics = field(default_factory=Metrics)
    network: Network | None = None
    line: PromptQueue | None = None
    loading: Loading | None = None

    def __post_init__(self) -> None:
        most = self.config.feedback_mib * 2**20
        self.feedback = Feedback(self.root / FILE, most)

    def start(self) -> None:
        """Open the line, and begin to load; on the event loop."""
        bounds = QueueBounds(
            self.config.max_waiting, self.config.max_batch, self.config.max_wait_ms / 1000
        )
        self.line = PromptQueue(bounds, self._rewrite, self.metrics.observe)
        self.metrics.waiting.set_function(lambda: len(self.line or ()))
        self.metrics.loaded.set_function(lambda: self.network is not None)
        self.loading = Loading(self.load, self._ready, self.config.retry_s)
        self.loading.start()

    async def stop(self) -> None:
        """Answer who is in line, then end."""
        if self.loading and self.line:
            self.loading.end()
            await asyncio.to_thread(self.line.stop, self.config.timeout_s)

    def _ready(self, network: Network) -> None:
        # The first batch pays for kernels and pages of the file: not a user's.
        network.rewriter.rewrite(["write a test"], Decoding(8, 0.0, 1))
        self.network = network
        networks.log.info("loaded", extra={"facts": {"model": network.name}})

    def _rewrite(self, prompts: Sequence[str], decoding: Decoding, watch: Any) -> list[Rewrite]:
        return self._loaded().rewriter.rewrite(prompts, decoding, watch)

    def _loaded(self) -> Network:
        if self.network is None:
            raise refusal.not_loaded(self.cure())
        return self.network

    def full(self) -> RequestRefusalError | None:
        """Return the refusal of a prompt more, where the line takes none."""
        waiting = len(self.line or ())
        return refusal.queue_full_refusal(waiting) if waiting >= self.config.max_waiting else None

    async def enter(
        self, prompts: Sequence[str], length: int, temperature: float, on_token: Any = None
    ) -> list["asyncio.Future[Rewrite]"]:
        """Check `prompts` and put them in line; Refusal 503, 422 or 429."""
        network = self._loaded()
        # A long strange text takes the tokenizer milliseconds: not on the event loop.
        for count in await asyncio.to_thread(self._counted, network, prompts):
            if count > network.rewriter.limit:
                raise RequestRefusalError(
                    422,
                    "prompt_too_long",
                    f"the prompt is {count} tokens, at most {network.rewriter.limit} are read",
                    tokens=count,
                    limit=network.rewriter.limit,
                )
            self.metrics.tokens.labels("in").inc(count)
        line = self.line
        if line is None:
            raise refusal.not_loaded(self.cure())
        answers = line.enter(
            prompts, Decoding(length, temperature, 1), self.config.timeout_s, on_token
        )
        self.metrics.accepted.inc(len(answers))
        return answers

    def _counted(self, network: Network, prompts: Sequence[str]) -> list[int]:
        return [network.rewriter.count(prompt) for prompt in prompts]

    async def answers(
        self, waiting: Sequence["asyncio.Future[Rewrite]"], departure: "asyncio.Future[Any]"
    ) -> list[Rewrite]:
        """Return what `waiting` comes to.

        Raise RequestRefusalError when the client leaves (`departure`) or time runs out first.
        """
        end = time.monotonic() + self.config.timeout_s
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
                    raise refusal.timeout_refusal(self.config.timeout_s)
                pending -= finished
            rewrites = [future.result() for future in waiting]
        finally:
            departure.cancel()
            for future in waiting:
                # Takes what is still in line out of it; a failure of several is told once.
                if not future.cancel() and not future.cancelled():
                    future.exception()
        self.metrics.answered.inc(len(waiting))
        return rewrites

    def confidence(self, rewrite: Rewrite, prompt: str) -> float:
        """Return how likely `rewrite` of `prompt` is useful, as calibrated."""
        self.metrics.tokens.labels("out").inc(rewrite.tokens)
        return confidence.rewrite_confidence(rewrite, prompt, self._loaded().calibration)

    def cure(self) -> str | None:
        """Return what a person can do so that a network is loaded, None where one is."""
        if self.network is not None:
            return None
        return self.loading.cure if self.loading else networks.BEING_LOADED

    def health(self) -> dict[str, Any]:
        """Return what GET /health says."""
        return {
            "status": "healthy",
            "model_loaded": self.network is not None,
            "device": "cpu",
            "model_type": MODEL_TYPE,
            "approach": APPROACH,
            "model": self.network.name if self.network else None,
            "waiting": len(self.line or ()),
            "cure": self.cure(),
        }
