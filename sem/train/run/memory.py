"""How much memory a run will need, how much it may use, and what to do when it was too much."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import console
from sem.core.errors import SemError
from sem.lm.local import hardware
from sem.lm.local import model as models
from sem.lm.local.hardware import Hardware
from sem.train.engine import adapters, several
from sem.train.recipe import Recipe
from sem.train.rows.stages import Stage, TrainingJob

GIB = 2**30
WIDE = {"float32": 4, "float64": 8}
# Python and its libraries; a CUDA context.
RUNTIME_GIB = {"cpu": 0.9, "cuda": 1.0}
# Bytes a layer keeps per token and unit of width for its backward pass, in bf16 with attention
# that stores no scores (Korthikanti et al. 2022, eq. 2, without dropout masks): 34 - 10.
KEPT = 24
# What a CPU's allocator keeps of freed activations: fitted on SmolLM2 (demo, 2,824 tokens a
# micro-batch: 3.1 GiB measured, 3.1 forecast); Gemma 3 270M was then 2.70 measured, 2.75 forecast.
HELD = {"cpu": 1.6}
HALVINGS = 2


@dataclass(frozen=True)
class MemoryForecast:
    """Peak memory by part, in GiB."""

    weights: float
    # Trained weights in fp32, their gradients, two moments each.
    optimizer: float
    activations: float
    # Logits of the labelled tokens and their gradient.
    head: float
    runtime: float

    @property
    def total(self) -> float:
        return self.weights + self.optimizer + self.activations + self.head + self.runtime


def forecast_memory(
    recipe: Recipe, base: Path, dtype: str, device: str, stages: tuple[Stage, ...]
) -> MemoryForecast:
    """Return what training the weights in `base` with `recipe` takes at its longest micro-
    batch.
    """
    model = models.load_skeleton(base)
    shape = model.config.get_text_config()
    count = count_parameters(base)
    width = shape.hidden_size
    layers = shape.num_hidden_layers + (getattr(shape, "num_decoder_layers", None) or 0)
    per_weight = 0.55 if recipe.load_in_4bit else WIDE.get(dtype, 2)
    trained = count if recipe.method == "full" else adapters.trained_weights(model, recipe)
    tokens, labels = _longest(recipe, stages)
    kept_bytes = KEPT * (2 if dtype == "float32" else 1)
    per_layer = tokens * width * kept_bytes
    deep = per_layer * layers
    if recipe.gradient_checkpointing:
        deep = tokens * width * 2 * layers + per_layer
    return MemoryForecast(
        weights=count * (4 if recipe.method == "full" else per_weight) / GIB,
        optimizer=trained * (12 if recipe.method == "full" else 16) / GIB,
        activations=deep * HELD.get(device, 1.0) / GIB,
        head=labels * shape.vocab_size * 10 / GIB,
        runtime=RUNTIME_GIB.get(device, 1.0),
    )


def memory_limit_gib(recipe: Recipe, machine: Hardware) -> float:
    """Return the GiB that a run may use: the recipe's word, else what `machine` can give."""
    limit_gib = recipe.checks.memory_gib
    return machine.usable_gib if limit_gib is None else limit_gib


def enforce_memory_limit(recipe: Recipe, machine: Hardware) -> None:
    """Hold this process to its limit on a GPU: beyond it the allocator says out of memory."""
    if machine.device == "cuda":
        import torch

        share = min(1.0, memory_limit_gib(recipe, machine) / machine.memory_gib)
        torch.cuda.set_per_process_memory_fraction(share)


def free_gib() -> float:
    """Return the memory of this machine that is not in use; all of it where nobody says."""
    path = Path("/proc/meminfo")
    if path.exists():
        for line in path.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2**20
    return hardware.ram_gib()


def count_parameters(base: Path) -> int:
    """Weights in the safetensors files of `base`, read from their headers."""
    total = 0
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for side in tensor["shape"]:
                    size *= side
                total += size
    return total


def with_room(job: TrainingJob, train: Callable[[TrainingJob], dict[str, Any]]) -> dict[str, Any]:
    """`train`(`job`); out of memory it goes on with half the micro-batch, the step stays as it is.

    At most two halvings, each said and counted in the result.
    """
    halved = 0
    while True:
        try:
            return train(job) | {"micro_batch": job.recipe.micro_batch, "halved": halved}
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = _smaller(job.recipe)
            if smaller is None or halved == HALVINGS or several.process_count() > 1:
                raise _exhausted(job.recipe) from error
        halved += 1
        _release()
        console.print_note(
            f"out of memory with micro_batch {job.recipe.micro_batch}: going on with "
            f"{smaller.micro_batch}, effective_batch stays {smaller.effective_batch}"
        )
        job = replace(job, recipe=smaller)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out, on a GPU or here."""
    import torch

    message = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and ("can't allocate memory" in message or "bad_alloc" in message)
    )


def _exhausted(recipe: Recipe) -> SemError:
    return SemError(
        f"out of memory with micro_batch {recipe.micro_batch}",
        "lower train.max_tokens or lora.rank, or set gradient_checkpointing: true; "
        "then continue with `fab train.resume`",
    )


def _smaller(recipe: Recipe) -> Recipe | None:
    half = recipe.micro_batch // 2
    fits = [size for size in range(half, 0, -1) if recipe.effective_batch % size == 0]
    return replace(recipe, micro_batch=fits[0]) if fits else None


def _release() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _longest(recipe: Recipe, stages: tuple[Stage, ...]) -> tuple[int, int]:
    """Tokens and labelled tokens of the largest micro-batch of `stages`."""
    sizes = [(0, 0)]
    for stage in stages:
        halves = 1 if stage.loss == "answer" else 2
        rows = [row.longest if halves == 2 else row for row in stage.rows.kept]
        length, trained = max(row.length for row in rows), max(row.trained for row in rows)
        sizes.append(tuple(size * halves * recipe.micro_batch for size in (length, trained)))
    return max(sizes)
