"""What examples are worth to the model that a sem trains: LoRA twice, at a budget of equal steps.

The baseline learns from the snapshot's train rows, the candidate from them and the contribution:
same start, recipe, seed and number of optimizer steps, so that rows which teach nothing gain
nothing by more training. The start is the sem's base model or a package's model. The score is the
mean log-likelihood a token of the reference answers on the snapshot's val rows, paired by row,
intervals by domain. A step and a scoring are measured first; what does not fit the time with the
sem's base model is tried with `proxy`. What is done is kept until the preview is.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset import snapshot
from sem.dataset.snapshot import Snapshot
from sem.preview import bench as benches
from sem.preview import cache, overlap
from sem.preview.bench import Bench, Split
from sem.preview.examples import Examples, as_samples
from sem.preview.gain import Gain, gained
from sem.preview.overlap import Overlap
from sem.preview.packaged import Package
from sem.train import data

FEWEST_STEPS = 4  # below them nothing is learnt that could be compared
LONGEST_STEP = 1.0  # nats: a row moves the mean by no more, so that none decides alone
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is to be estimated: GIVEN over PROJECT's snapshot, in as many SECONDS."""

    project: Project
    given: Examples
    seconds: float
    proxy: str | None = None
    package: Package | None = None  # what both trainings start from; None: the base model
    parts: Path | None = None  # where finished fits are kept


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
    start: float | None = None  # the package's own score, before any step
    unseen: int = 0  # val rows left out, because the package has learnt them


def worth(asked: Asked, watched: Watch = lambda _: None) -> Worth:
    """What the examples ASKED for add; SemError when nothing fits the time."""
    began = time.monotonic()
    frozen = snapshot.load(asked.project, None)
    parts = {name: tuple(frozen.examples(name)) for name in ("train", "val", "test")}
    more, tested = _learnt_before(asked.package, frozen, parts["val"])
    held = as_samples((*parts["val"], *parts["test"]))
    known = overlap.find(
        as_samples(asked.given.kept), as_samples((*parts["train"], *more)), held
    )  # fmt: skip
    left = tuple(one for n, one in enumerate(asked.given.kept) if n not in known.left_out)
    if not left:
        raise SemError(
            f"every one of the {len(asked.given.kept):,} examples is known already or in val or "
            "test",
            "contribute examples that the snapshot does not hold",
        )
    split = Split(parts["train"], left, tested)
    with tempfile.TemporaryDirectory(prefix="sem-preview-") as folder:
        seconds = asked.seconds - (time.monotonic() - began)
        bench, steps = _chosen(asked, split, seconds, Path(folder), watched)
        scored = _Scored(bench, split, asked.parts)
        start = scored.of("package", 0, False, watched) if asked.package else None
        old = scored.of("baseline", steps, False, watched)
        new = scored.of("candidate", steps, True, watched)
    change = [max(-LONGEST_STEP, min(LONGEST_STEP, b - a)) for a, b in zip(old, new, strict=True)]
    units = {one.id: one.unit for one in tested}
    rows, added = scored.rows["tested"].kept, scored.rows["given"]
    return Worth(
        gained([0.0] * len(change), change, [units[row.id] for row in rows]),
        sum(old) / len(old), sum(new) / len(new), known, len(added.kept), steps, bench.name,
        bench.seconds_a_step, len(added.too_long),
        sum(start) / len(start) if start else None, len(parts["val"]) - len(tested),
    )  # fmt: skip


class _Scored:
    """Trainings on one bench, each done once: scores are kept, weights are not."""

    def __init__(self, bench: Bench, split: Split, parts: Path | None) -> None:
        self.bench, self.parts = bench, parts
        self.rows = {
            name: data.encode(getattr(split, name), bench.writer)
            for name in ("base", "given", "tested")
        }

    def of(self, name: str, steps: int, with_given: bool, watched: Watch) -> list[float]:
        """The score of each val row after STEPS, as it is kept or by a training."""
        tested = self.rows["tested"].kept
        rows = (*self.rows["base"].kept, *(self.rows["given"].kept if with_given else ()))
        told = [name, self.bench.name, steps, [row.id for row in (*rows, *tested)]]
        kept = cache.part(self.parts, told)
        if kept is not None and len(kept) == len(tested):
            watched(f"{name}: kept from before")
            return kept
        watched(f"{name}: {steps} steps")
        return cache.keep_part(
            self.parts, told, benches.trained(self.bench, rows, steps, tested)
        )  # fmt: skip


def _learnt_before(
    package: Package | None, frozen: Snapshot, val: tuple[Example, ...]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """What PACKAGE has learnt from beside FROZEN, and the rows of VAL that it has not."""
    if package is None or package.learnt.sha256 == frozen.sha256:
        return (), val
    learnt = tuple(package.learnt.examples("train"))
    seen = overlap.find(as_samples(val), (), as_samples(learnt)).benchmark
    tested = tuple(one for number, one in enumerate(val) if number not in seen)
    if len(tested) < 2:
        raise SemError(
            f"{package.folder}: has learnt {len(seen)} of the {len(val)} val rows",
            "give a package that was trained on the latest snapshot",
        )
    return learnt, tested


def _chosen(
    asked: Asked, split: Split, seconds: float, folder: Path, watched: Watch
) -> tuple[Bench, int]:
    """The sem's base model when its steps fit SECONDS, else the proxy; and how many steps do.

    What was chosen before a preview was killed is chosen again.
    """
    began, tried = time.monotonic(), []
    own, proxy = asked.project.base_model_id, asked.proxy if asked.package is None else None
    kept = cache.part(asked.parts, ["chosen"])
    if kept and kept[0] in (own, proxy):
        made = benches.prepared(asked.project, kept[0], folder, asked.package)
        return replace(made, seconds_a_step=kept[2]), kept[1]
    for name in [own, *([proxy] if proxy else [])]:
        watched(f"warm-up: {name}")
        made = benches.prepared(asked.project, name, folder, asked.package)
        bench = benches.measured(made, split)
        steps = bench.steps(seconds - (time.monotonic() - began))
        if steps >= FEWEST_STEPS:
            rows = len(split.base) + len(split.given)
            enough = -(-rows // bench.job.recipe.effective_batch) * bench.job.recipe.epochs
            steps = min(steps, round(enough) or 1)
            cache.keep_part(asked.parts, ["chosen"], [name, steps, bench.seconds_a_step])
            return bench, steps
        tried.append(f"{name}: {bench.seconds_a_step:.1f} s a step")
    raise SemError(
        f"{FEWEST_STEPS} steps of two trainings do not fit {seconds:.0f} s: {'; '.join(tried)}",
        "give more --seconds"
        + ("" if asked.package else ", or name a smaller model as `proxy` in preview.yaml"),
    )
