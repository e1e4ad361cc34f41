"""One base model on the bench: its trainer, what its steps take, trainings, scores.

The trainer is the project's own; a package's weights are put into the base model first.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.run import Run
from sem.eval.config import EvalSettings
from sem.lm import chat, hardware, weight_packages, weights
from sem.lm import model as models
from sem.lm.weights import Weights
from sem.preview.packaged import Package
from sem.train import adapters, arguments, data, loss, recipe, stages, trainer
from sem.train.data import Row, Rows, Writer
from sem.train.stages import Job

SPARE = 0.8  # of the time: what a forecast may take


@dataclass(frozen=True)
class Split:
    """What is learnt from and tested on."""

    base: tuple[Example, ...]
    given: tuple[Example, ...]
    tested: tuple[Example, ...]


@dataclass(frozen=True)
class Bench:
    """One base model, what is put into it, and what its steps take."""

    job: Job
    writer: Writer
    name: str
    package: Package | None = None
    seconds_a_step: float = 0.0
    seconds_a_score: float = 0.0

    def steps(self, seconds: float) -> int:
        """Steps of each of both trainings that fit SECONDS, scoring included."""
        scorings = 3 if self.package else 2
        left = seconds * SPARE - scorings * self.seconds_a_score
        return int(left / (2 * self.seconds_a_step))


def here(project: Project, name: str) -> Weights:
    """The base model NAME on this disk; SemError where it would have to be fetched."""
    package = weight_packages.KNOWN.get(name)
    folder = project.base_models / package.slug if package else project.root / name
    if not folder.is_dir():
        raise SemError(
            f"base model {name!r} is not in {folder}, and a preview fetches nothing",
            "fetch it once with `fab env.weights`, or name a folder as `proxy` in preview.yaml",
        )
    return weights.resolve(name, project.root)


def prepared(project: Project, name: str, folder: Path, package: Package | None = None) -> Bench:
    """The trainer of PROJECT over the base model NAME, writing below FOLDER only."""
    wanted = replace(
        recipe.of(project), max_steps=None, val_answers=0, select="last", patience=None,
        checkpoint_steps=10**6, log_steps=10**6, fast=False, pretrain=recipe.Pretrain(),
        preference=recipe.Preference(), augmented=False,
    )  # fmt: skip
    base, machine = here(project, name).folder, hardware.detect()
    speaker = chat.load(base, wanted.renderer)
    slots = slotspec.load(project.root / "configs" / "judge_slots.yaml")
    job = Job(
        run=Run("preview", folder), recipe=wanted, base=base, dtype=machine.dtype,
        device=machine.device, chat=speaker, stages=(), tasks=project.tasks, slots=slots,
        answering=project.settings("eval", EvalSettings),
    )  # fmt: skip
    return Bench(job, Writer(project.tasks, speaker, wanted, slots), name, package)


def measured(bench: Bench, split: Split) -> Bench:
    """BENCH with the seconds of a step and of scoring all val rows, by one of each."""
    size = bench.job.recipe.effective_batch
    few = data.encode((*split.base[: size * 2], *split.given[: size * 2]), bench.writer)
    data.check(few, "the first rows")
    model = fresh(bench)
    train(bench.job, model, few.kept[:1], 1)  # the first step loads libraries
    began = time.perf_counter()
    train(bench.job, model, few.kept, 2)
    step = (time.perf_counter() - began) / 2
    tested = data.encode(split.tested[: bench.job.recipe.micro_batch], bench.writer)
    data.check(tested, "val")
    began = time.perf_counter()
    score(bench.job, model, tested.kept)
    once = (time.perf_counter() - began) / len(tested.kept)
    return replace(bench, seconds_a_step=step, seconds_a_score=once * len(split.tested))


def trained(bench: Bench, rows: Sequence[Row], steps: int, tested: Sequence[Row]) -> list[float]:
    """The score of each of TESTED after STEPS on ROWS, from the same start every time."""
    model = fresh(bench)
    if steps:
        train(bench.job, model, rows, steps)
    return score(bench.job, model, tested)


def fresh(bench: Bench) -> Any:
    """The model that every training starts from: the same each time."""
    import torch

    job = bench.job
    torch.manual_seed(job.recipe.seed)  # the adapter's start; the trainer seeds itself
    model = models.load(job.base, job.dtype, job.device)
    if bench.package:
        bench.package.put_in(model)
    return adapters.wrap(model, job.recipe)


def train(job: Job, model: Any, rows: Sequence[Row], steps: int) -> None:
    """STEPS optimizer steps of MODEL on ROWS by the project's own trainer."""
    stage = stages.Stage(
        stages.EXAMPLES, "answer", Rows(tuple(rows)), Rows(()), job.recipe.learning_rate,
        job.recipe.epochs, steps,
    )  # fmt: skip
    trainer.build(job, stage, model, []).train()


def score(job: Job, model: Any, rows: Sequence[Row]) -> list[float]:
    """The mean log-likelihood a token of the answer of each of ROWS."""
    import torch

    pad, size = trainer.collator(job, model), job.recipe.micro_batch
    made = [trainer.record(n, row) | {"weights": None} for n, row in enumerate(rows)]
    found: list[float] = []
    model.eval()
    with torch.no_grad(), arguments.precision(job, model):
        for start in range(0, len(made), size):
            batch = {k: v.to(job.device) for k, v in pad(made[start : start + size]).items()}
            found += loss.score(model, batch).by_sequence().float().tolist()
    return [value / row.trained for value, row in zip(found, rows, strict=True)]
