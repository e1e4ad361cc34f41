"""One base model on the bench: its trainer, what its steps take, trainings, scores.

The trainer is the project's own, by the door that `train.run` takes; a package's weights are put
into the base model first.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import files, slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.run import Run
from sem.eval.config import EvalSettings
from sem.lm.local import chat, hardware
from sem.lm.local import model as models
from sem.lm.weights import weight_packages, weights
from sem.lm.weights.weights import Weights
from sem.preview.lora import frozen_layers as lower
from sem.preview.lora.frozen_layers import FrozenLayers
from sem.preview.lora.packaged import StartPackage
from sem.train import recipe
from sem.train.engine import arguments, backend_trl, loss, trainer
from sem.train.rows import data, stages
from sem.train.rows.data import RowWriter, TrainingRow, TrainingRows
from sem.train.rows.stages import TrainingJob

# micro-batches that are measured, after the first, which loads libraries.
WARM_STEPS = 2
# Scorings that a token takes to be learnt, at least: 2.3 to 2.7 were measured.
LEAST = 2.0


@dataclass(frozen=True)
class ExampleSplit:
    """What is learnt from and tested on."""

    base: tuple[Example, ...]
    given: tuple[Example, ...]
    tested: tuple[Example, ...]


@dataclass(frozen=True)
class EncodedSplit:
    """The same as token ids; what is longer than the recipe's max_tokens is left out."""

    base: TrainingRows
    given: TrainingRows
    tested: TrainingRows


@dataclass(frozen=True)
class Bench:
    """One base model and what is put into it."""

    job: TrainingJob
    writer: RowWriter
    name: str
    package: StartPackage | None = None
    # The layers that are not trained; None: all are.
    lower: FrozenLayers | None = None


@dataclass(frozen=True)
class TokenPace:
    """Seconds of a token on this machine now: trained on, scored, below the trained layers."""

    trained: float
    scored: float
    below: float = 0.0  # once a row


def find_local_weights(project: Project, name: str) -> Weights:
    """Return the base model `name` on this disk.

    Raise SemError where it would have to be fetched.
    """
    package = weight_packages.KNOWN.get(name)
    folder = project.base_models / package.slug if package else project.root / name
    if not folder.is_dir():
        raise SemError(
            f"base model {name!r} is not in {folder}, and a preview fetches nothing",
            "fetch it once with `fab env.weights`, or name a folder as `proxy` in preview.yaml",
        )
    return weights.resolve_weights(name, project.root)


def prepare_bench(
    project: Project, name: str, folder: Path, package: StartPackage | None = None
) -> Bench:
    """Return the trainer of `project` over the base model `name`, writing below `folder` only."""
    preview_recipe = replace(
        recipe.load_recipe(project),
        max_steps=None,
        val_answers=0,
        select="last",
        patience=None,
        checkpoint_steps=10**6,
        log_steps=10**6,
        pretrain=recipe.Pretrain(),
        preference=recipe.Preference(),
        augmented=False,
    )
    base, machine = find_local_weights(project, name).folder, hardware.detect_hardware()
    speaker = chat.load_chat(base, preview_recipe.renderer)
    slots = slotspec.load_slot_levels(project.root / "configs" / "judge_slots.yaml")
    job = TrainingJob(
        run=Run("preview", folder),
        recipe=preview_recipe,
        base=base,
        dtype=machine.dtype,
        device=machine.device,
        chat=speaker,
        stages=(),
        tasks=project.tasks,
        slots=slots,
        answering=project.settings("eval", EvalSettings),
    )
    return Bench(job, RowWriter(project.tasks, speaker, preview_recipe, slots), name, package)


def build_shallow_bench(bench: Bench) -> Bench | None:
    """Return `bench` with the last layers trained only.

    None where its recipe or model has no such form.
    """
    if bench.job.recipe.method != "lora":
        return None
    layers = lower.frozen_layers_of(files.read_object(bench.job.base / "config.json"))
    return replace(bench, lower=layers) if layers else None


def encode_split(bench: Bench, split: ExampleSplit) -> EncodedSplit:
    """Return `split` as `bench`'s rows.

    Raise SemError where one part has none that is short enough.
    """
    parts = EncodedSplit(
        *(
            data.encode_examples(part, bench.writer)
            for part in (split.base, split.given, split.tested)
        )
    )
    for rows, what in ((parts.base, "train"), (parts.given, "given"), (parts.tested, "val")):
        data.check_trainable(rows, what)
    return parts


def measure_token_pace(
    bench: Bench, rows: EncodedSplit, fits: Callable[[TokenPace], bool]
) -> TokenPace:
    """Return what a token takes on `bench`, by a few micro-batches of each kind.

    A training that is no faster than LEAST scorings, and so does not fit by `fits`, is not
    measured.
    """
    job, size = bench.job, bench.job.recipe.micro_batch
    few = [*rows.given.kept[:size], *rows.base.kept[:size]][: size * WARM_STEPS]
    tested, model = rows.tested.kept[:size], load_fresh_model(bench)
    answer_likelihoods(job, model, tested[:1])  # loads libraries
    began = time.perf_counter()
    pass_frozen_layers(bench, model, [*tested, *few])
    below = (time.perf_counter() - began) / sum(row.length for row in (*tested, *few))
    began = time.perf_counter()
    answer_likelihoods(job, model, tested)
    scored = (time.perf_counter() - began) / (len(tested) * _mean(tested))
    pace = TokenPace(LEAST * scored, scored, below if bench.lower else 0.0)
    if not fits(pace):
        return pace
    small = replace(job, recipe=replace(job.recipe, effective_batch=size))
    train_steps(small, model, few[:size], 1)
    began = time.perf_counter()
    train_steps(small, model, few, WARM_STEPS)
    # WARM_STEPS whole micro-batches were learnt, though the rows may be fewer.
    train_s = (time.perf_counter() - began) / (WARM_STEPS * size * _mean(few))
    return replace(pace, trained=train_s)


def seconds_a_step(bench: Bench, rows: EncodedSplit, pace: TokenPace) -> float:
    """Return the seconds of an optimizer step on `rows`, without the layers below the trained."""
    return pace.trained * _of_both(rows) * bench.job.recipe.effective_batch


def seconds_below(bench: Bench, rows: EncodedSplit, pace: TokenPace) -> float:
    """Return the seconds of the layers below the trained ones, for a step of each training.

    Few rows differ.
    """
    new = len(rows.given.kept) / (len(rows.base.kept) + len(rows.given.kept))
    return pace.below * _of_both(rows) * bench.job.recipe.effective_batch * (1 + new)


def seconds_a_row(rows: TrainingRows, pace: TokenPace, scorings: int = 1) -> float:
    """Return the seconds of scoring one of `rows`, `scorings` times."""
    return (pace.scored * scorings + pace.below) * _mean(rows.kept)


def _of_both(rows: EncodedSplit) -> float:
    return _mean((*rows.base.kept, *rows.given.kept))


def _mean(rows: Sequence[TrainingRow]) -> float:
    return sum(row.length for row in rows) / len(rows)


def train_from_start(bench: Bench, rows: Sequence[TrainingRow], steps: int) -> Any:
    """Return the model after `steps` on `rows`, from the same start every time."""
    model = load_fresh_model(bench)
    pass_frozen_layers(bench, model, rows)
    if steps:
        train_steps(bench.job, model, rows, steps)
    return model


def pass_frozen_layers(bench: Bench, model: Any, rows: Sequence[TrainingRow]) -> None:
    """Let those of `rows` that are new pass the layers of `model` that are not trained, if any."""
    import torch

    if bench.lower:
        new = lower.select_unseen_rows(bench.lower, rows)
        with torch.no_grad(), arguments.precision_context(bench.job, model):
            lower.run_frozen_layers(model, bench.lower, padded_batches(bench.job, model, new))


def load_fresh_model(bench: Bench) -> Any:
    """Return the model that every training starts from: the same each time."""
    job = bench.job
    base = models.load_model(
        job.base, job.dtype, job.device, **backend_trl.quantization_options(job)
    )
    if bench.package:
        bench.package.put_in(base)
    model = backend_trl.ready_for_training(job, base)[0]
    if bench.lower:
        lower.install_frozen_layers(model, bench.lower)
    return model


def train_steps(job: TrainingJob, model: Any, rows: Sequence[TrainingRow], steps: int) -> None:
    """`steps` optimizer steps of `model` on `rows` by the project's own trainer."""
    stage = stages.Stage(
        stages.EXAMPLES,
        "answer",
        TrainingRows(tuple(rows)),
        TrainingRows(()),
        job.recipe.learning_rate,
        job.recipe.epochs,
        steps,
    )
    trainer.build_trainer(job, stage, model, []).train()


def padded_batches(
    job: TrainingJob, model: Any, rows: Sequence[TrainingRow]
) -> Iterator[dict[str, Any]]:
    """Yield `rows` in order as `model`'s padded tensors, a micro-batch at a time.

    Each token counts one.
    """
    pad, size = trainer.build_collator(job, model), job.recipe.micro_batch
    records = [trainer.collator_record(n, row) | {"weights": None} for n, row in enumerate(rows)]
    for start in range(0, len(records), size):
        yield {k: v.to(job.device) for k, v in pad(records[start : start + size]).items()}


def answer_likelihoods(job: TrainingJob, model: Any, rows: Sequence[TrainingRow]) -> list[float]:
    """Return the mean log-likelihood a token of the answer of each of `rows`."""
    import torch

    likelihoods: list[float] = []
    model.eval()
    with torch.no_grad(), arguments.precision_context(job, model):
        for batch in padded_batches(job, model, rows):
            likelihoods += loss.token_cross_entropy(model, batch).by_sequence().float().tolist()
    return [value / row.trained for value, row in zip(likelihoods, rows, strict=True)]
