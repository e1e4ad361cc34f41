"""How fast and how large training is, written beside every logged loss."""

import math
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from sem.train.engine.batches import BatchOrder
from sem.train.recipe import Recipe
from sem.train.rows.stages import Job, Stage

GIB = 2**30
# ru_maxrss counts KiB on Linux and bytes on a Mac.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass
class Pace:
    """Tokens of each optimizer step, known beforehand: the order of rows is a function."""

    stage: Stage
    recipe: Recipe
    orders: dict[int, list[int]] = field(default_factory=dict)

    def tokens(self, first: int, last: int) -> tuple[int, int]:
        """(all, trained) tokens of the steps after `first` up to `last`."""
        rows, size = self.stage.rows.kept, self.recipe.effective_batch
        per_epoch = -(-len(rows) // size)
        total = trained = 0
        for step in range(first, last):
            epoch, place = divmod(step, per_epoch)
            for number in self._order(epoch)[place * size : (place + 1) * size]:
                total += rows[number].length
                trained += _trained(rows[number])
        return total, trained

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self.orders:
            lengths = [row.length for row in self.stage.rows.kept]
            order = BatchOrder(lengths, self.recipe.effective_batch, self.recipe.seed, epoch)
            self.orders = {epoch: list(order)}
        return self.orders[epoch]


def tokens_per_second(pace: Pace, first: int, last: int, seconds: float) -> dict[str, float]:
    """tokens_per_second and trained_tokens_per_second of the steps after `first` up to `last`."""
    total, trained = pace.tokens(first, last)
    rates = {"tokens_per_second": total, "trained_tokens_per_second": trained}
    return {name: round(count / seconds, 1) for name, count in rates.items()} if seconds else {}


def peak_memory_gib(device: str) -> float:
    """Return the most this process has held: allocated on a GPU, resident on a CPU."""
    if device == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated() / GIB, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / GIB, 3)


def callback(job: Job, stage: Stage) -> Any:
    """Return a callback that adds speed, peak memory and perplexity to what is logged.

    It stands first.

    Seconds are those between the begin and the end of steps: checks and checkpoints do not
    count. Perplexity is exp of a loss that counts each token once; a weighted one has none.
    """
    from transformers import TrainerCallback

    pace = Pace(stage, job.recipe)
    is_plain = stage.loss == "answer" and job.recipe.loss.is_flat and not job.recipe.task_weights

    class Gauge(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds, self.told = 0.0, state.global_step

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds += time.monotonic() - self.began

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            logs.update(tokens_per_second(pace, self.told, state.global_step, self.seconds))
            logs["peak_memory_gib"] = peak_memory_gib(job.device)
            if is_plain:
                logs["perplexity"] = math.exp(min(float(logs["loss"]), 700.0))
            self.seconds, self.told = 0.0, state.global_step

    return Gauge()


def _trained(row: Any) -> int:
    sides = [getattr(row, side) for side in ("chosen", "rejected") if hasattr(row, side)]
    return sum(side.trained for side in sides or [row])
