"""The service behind the routes: prompts in, rewrites with their confidence out."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.optimizer.model import confidence
from sem.optimizer.model.rewriter import Decoding, Rewrite
from sem.optimizer.server import network as networks
from sem.optimizer.server import refusal
from sem.optimizer.server.config import ServeSettings
from sem.optimizer.server.feedback import FILE, Feedback
from sem.optimizer.server.line import Bounds, Line
from sem.optimizer.server.metrics import Metrics
from sem.optimizer.server.network import Loading, Network
from sem.optimizer.server.refusal import Refusal

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
    line: Line | None = None
    loading: Loading | None = None

    def __post_init__(self) -> None:
        most = self.config.feedback_mib * 2**20
        self.feedback = Feedback(self.root / FILE, most)

    def start(self) -> None:
        """Open the line, and begin to load; on the event loop."""
        bounds = Bounds(
            self.config.max_waiting, self.config.max_batch, self.config.max_wait_ms / 1000
        )
        self.line = Line(bounds, self._rewrite, self.metrics.observe)
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

    def full(self) -> Refusal | None:
        """Return the refusal of a prompt more, where the line takes none."""
        waiting = len(self.line or ())
        return refusal.full(waiting) if waiting >= self.config.max_waiting else None

    async def enter(
        self, prompts: Sequence[str], length: int, temperature: float, on_token: Any = None
    ) -> list["asyncio.Future[Rewrite]"]:
        """Check `prompts` and put them in line; Refusal 503, 422 or 429."""
        network = self._loaded()
        # A long strange text takes the tokenizer milliseconds: not on the event loop.
        for count in await asyncio.to_thread(self._counted, network, prompts):
            if count > network.rewriter.limit:
                raise Refusal(
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
        """Return what `waiting` come to.

        Refusal when the client leaves (`departure`) or the time is over first.
        """
        end = time.monotonic() + self.config.timeout_s
        pending = set(waiting)
        try:
            while pending:
                if departure.done():
                    raise refusal.gone()
                spare = max(0.0, end - time.monotonic())
                finished, _ = await asyncio.wait(
                    {*pending, departure}, timeout=spare, return_when=asyncio.FIRST_COMPLETED
                )
                if not finished:
                    raise refusal.late(self.config.timeout_s)
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
