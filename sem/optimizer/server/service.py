"""The service behind the routes: prompts in, rewrites with their confidence out."""

import asyncio
import errno
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import Busy
from sem.lm.api import redact
from sem.lm.server.batching import BatchQueue
from sem.lm.server.metrics import Metrics
from sem.lm.server.refusal import RequestRefusalError
from sem.optimizer.model import confidence
from sem.optimizer.model.rewriter import Decoding, Rewrite
from sem.optimizer.server import network as networks
from sem.optimizer.server.config import ServeSettings
from sem.optimizer.server.network import Loading, Network

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


def not_loaded(cure: str) -> RequestRefusalError:
    """Return the refusal while no adapter is loaded; the base model alone is never served."""
    return RequestRefusalError(503, "not_loaded", "Model not loaded", retry_after_s=5, cure=cure)


def network_failed_refusal() -> RequestRefusalError:
    """Return the refusal of prompts on which the network raised; the log says what."""
    return RequestRefusalError(503, "network_failed", "the network failed on this request", 1)


APPROACH = "neural rewriting: a frozen T5 with a trained LoRA adapter, no rules"
MODEL_TYPE = "t5-lora-ctranslate2"


@dataclass
class Service:
    """What runs: the network once it is loaded, and the line before it."""

    config: ServeSettings
    root: Path
    load: Any  # () -> Network
    metrics: Metrics = field(default_factory=lambda: Metrics("sem_optimizer", "prompts"))
    network: Network | None = None
    line: BatchQueue[str, Rewrite] | None = None
    loading: Loading | None = None

    def __post_init__(self) -> None:
        most = self.config.feedback_mib * 2**20
        self.feedback = Feedback(self.root / FILE, most)

    def start(self) -> None:
        """Open the line, and begin to load; on the event loop."""
        self.line = BatchQueue(
            self.config, self._rewrite, network_failed_refusal, self.metrics, "prompts"
        )
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
            raise not_loaded(self.cure())
        return self.network

    def full(self) -> RequestRefusalError | None:
        """Return the refusal of a prompt more, where the line takes none."""
        return self.line.refuse_when_full() if self.line else None

    @property
    def queue(self) -> BatchQueue[str, Rewrite]:
        """Return the line, which is open from the start of the event loop."""
        if self.line is None:
            raise not_loaded(self.cure())
        return self.line

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
        answers = self.queue.enter(prompts, Decoding(length, temperature, 1), on_token)
        self.metrics.accepted.inc(len(answers))
        return answers

    def _counted(self, network: Network, prompts: Sequence[str]) -> list[int]:
        return [network.rewriter.count(prompt) for prompt in prompts]

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
