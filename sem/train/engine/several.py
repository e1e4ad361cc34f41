"""One run in several processes, one a GPU: each takes its part of every optimizer step.

The environment says who is who (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), as torchrun sets
it, so that `torchrun --nproc-per-node N scripts/train_run.py …` is the same as `--processes N`.
On several hosts (`cluster`) they share the run's folder. A step has the same rows whatever the
number of processes; only the order of sums differs. The first process alone writes files, shows
progress and tracks.
"""

import io
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sem.core import console, files
from sem.core.errors import SemError
from sem.train.engine.batches import BatchOrder
from sem.train.recipe import Recipe

Result = TypeVar("Result")
# How long a network disk may take to show a new file.
VISIBLE_S = 60.0
# The number of a row that is not there: where a step has fewer rows than processes.
BLANK = -1


def process_count() -> int:
    """Return how many processes train this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return which of them this is; the first is 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    return process_rank() == 0


@contextmanager
def join_processes(device: str, recipe: Recipe, folder: Path) -> Iterator[None]:
    """Together with the other processes as long as this is open; alone it does nothing.

    Raise SemError when `folder`, the run's, is not the same one for all of them.
    """
    if process_count() == 1:
        yield
        return
    if recipe.effective_batch % (recipe.micro_batch * process_count()):
        raise SemError(
            f"effective_batch {recipe.effective_batch} is not a multiple of micro_batch "
            f"{recipe.micro_batch} x {process_count()} processes",
            "choose micro_batch so that it divides each process's part",
        )
    import torch
    from accelerate import PartialState

    # Gloo or nccl, and each process its own GPU.
    PartialState(cpu=device == "cpu")
    if device == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // _here()))
    try:
        if _here() != process_count():
            _share(folder)
        if is_first():
            yield
        else:  # what the first one says is enough; an error is told after this
            with redirect_stderr(io.StringIO()):
                yield
    except BaseException:
        # Nobody waits for the others, they are ended; and the interpreter would abort on threads
        # of the group that still run.
        console.skip_teardown()
        raise
    torch.distributed.destroy_process_group()


def _here() -> int:
    """Return how many of them are on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))


def _share(folder: Path) -> None:
    """Raise SemError when the processes do not all see what the first one writes into `folder`."""
    mark = folder / ".shared"
    token = compute_once(lambda: _marked(mark))
    until = time.monotonic() + VISIBLE_S
    while (
        not (is_visible := mark.exists() and mark.read_text() == token)
        and time.monotonic() < until
    ):
        time.sleep(0.2)
    absent = max_across_processes(0 if is_visible else process_rank())
    if is_first():
        mark.unlink()
    if absent:
        raise SemError(
            f"process {absent} of {process_count()} sees a different {folder} from the first",
            "put the project on a disk that all hosts share, at the same path",
        )


def _marked(mark: Path) -> str:
    token = secrets.token_hex(8)
    files.write_file(mark, token)
    return token


def compute_once(make: Callable[[], Result]) -> Result:
    """Return what `make` gives in the first process, in every process."""
    if process_count() == 1:
        return make()
    import torch

    held = [make() if is_first() else None]
    torch.distributed.broadcast_object_list(held, src=0)
    return held[0]  # type: ignore[return-value]


def wait_for_processes() -> None:
    """Wait until every process is here."""
    compute_once(lambda: None)


def max_across_processes(number: int) -> int:
    """Return the largest `number` of any process."""
    if process_count() == 1:
        return number
    import torch

    held: list[Any] = [None] * process_count()
    torch.distributed.all_gather_object(held, number)
    return max(held)


def add_gradients(weights: Sequence[tuple[str, Any]]) -> None:
    """Replace the gradients of `weights` by their sums over all processes."""
    import torch

    for _, weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        torch.distributed.all_reduce(weight.grad)


@dataclass
class PartOrder:
    """Batch sampler: the micro-batches of one process, in the order of `BatchOrder`.

    Each optimizer step is cut into micro-batches that are dealt out like cards, so that every
    process has as many and their lengths are alike; the last step of an epoch may deal BLANKs.
    """

    order: BatchOrder
    micro: int
    rank: int
    count: int

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.order.effective)
        return whole * self._hands(self.order.effective) + self._hands(rest)

    def __iter__(self) -> Iterator[list[int]]:
        numbers, size = list(self.order), self.order.effective
        for start in range(0, len(numbers), size):
            yield from self._dealt(numbers[start : start + size])

    def _hands(self, rows: int) -> int:
        return -(-rows // (self.micro * self.count))

    def _dealt(self, step: list[int]) -> Iterator[list[int]]:
        parts = self._hands(len(step)) * self.count
        for part in range(self.rank, parts, self.count):
            low, high = (len(step) * end // parts for end in (part, part + 1))
            yield step[low:high] or [BLANK]


class GradientSyncMixin:
    """What stands before a trainer where several processes train one model.

    Gradients are added here once a step, not by DistributedDataParallel, whose hooks need its
    own forward: the loss computes the head at labels only and calls the model itself.
    """

    def __init__(self, *args: Any, **words: Any) -> None:
        import torch

        if words["args"].device.type == "cpu":
            # A checkpoint is read onto args.device, and torch.load knows no "cpu:0".
            vars(words["args"])["_setup_devices"] = torch.device("cpu")
        super().__init__(*args, **words)
        if self.probe:
            self.probe = SharedProbe(self.probe)

    def get_train_dataloader(self) -> Any:
        """This process's micro-batches; not sharded again by accelerate."""
        from torch.utils.data import DataLoader

        class Loader(DataLoader):
            def set_epoch(self, epoch: int) -> None:
                self.batch_sampler.set_epoch(epoch)

        order = PartOrder(
            self._get_train_sampler(), self.job.recipe.micro_batch, process_rank(), process_count()
        )
        places = {number: {"number": number} for number in range(BLANK, len(order.order))}
        return Loader(places, batch_sampler=order, collate_fn=self._collated)

    def _collated(self, places: Sequence[dict[str, int]]) -> dict[str, Any]:
        if places[0]["number"] != BLANK:
            return self.data_collator(places)
        blank = self.data_collator([{"number": 0}])
        blank["number"].fill_(BLANK)
        return blank

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        real = [batch for batch in batch_samples if int(batch["number"][0]) != BLANK]
        return super()._get_num_items_in_batch(real, device)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **words: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **words)
        return loss * 0.0 if int(inputs["number"][0]) == BLANK else loss

    def training_step(self, *args: Any, **words: Any) -> Any:
        """Return the loss times the number of processes: the trainer logs their mean."""
        from sem.train.engine import adapters

        loss = super().training_step(*args, **words)
        if self.accelerator.sync_gradients:
            add_gradients(adapters.trained_tensors(self.model))
        return loss * process_count()

    def _loss_on_val(self) -> dict[str, float]:
        return compute_once(super()._loss_on_val)

    def _save_checkpoint(self, *args: Any, **words: Any) -> None:
        super()._save_checkpoint(*args, **words)
        # Nobody goes on before it is sealed.
        wait_for_processes()


class CheckpointBarrierMixin:
    """What stands after ours and before the Trainer's own: sealed when all have written."""

    def _save_checkpoint(self, *args: Any, **words: Any) -> None:
        super()._save_checkpoint(*args, **words)
        wait_for_processes()


@dataclass(frozen=True)
class SharedProbe:
    """A probe that the first process alone asks."""

    probe: Any

    def measure(self, model: Any) -> dict[str, float]:
        """Return what the probe measures, in every process."""
        return compute_once(lambda: self.probe.measure(model))
