"""What examples are worth to the model that a sem trains: LoRA twice, at a budget of equal steps.

The baseline learns from the snapshot's train rows, the candidate from them and the contribution:
same start, recipe, seed and number of optimizer steps, so that rows which teach nothing gain
nothing by more training. The start is the sem's base model or a package's model. The score is the
mean log-likelihood a token of the reference answers on the snapshot's val rows, paired by row,
intervals by domain. A step and a scoring are measured first; what does not fit the time with the
sem's base model is tried with `proxy`, then with LoRA in the base model's last layers only. What
is done is kept until the preview is.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sem.core import files
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import ROOT, Project
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot
from sem.preview.contribution import overlap
from sem.preview.contribution.examples import Examples, as_samples
from sem.preview.contribution.overlap import Overlap
from sem.preview.linear import cache
from sem.preview.lora import advice, afford, gradient_likeness, mixture
from sem.preview.lora import bench as benches
from sem.preview.lora.advice import Advised, Known
from sem.preview.lora.afford import FEWEST_STEPS, Budget
from sem.preview.lora.bench import Bench, Encoded, Pace, Split
from sem.preview.lora.frozen_layers import Lower
from sem.preview.lora.gradient_likeness import Pull
from sem.preview.lora.packaged import Package
from sem.preview.stats.paired_gain import Gain, gained
from sem.train.rows import data
from sem.train.rows.data import Row

FITTED = ROOT / "configs" / "preview_examples.json"
# Contributed rows that are read as tokens: no preview learns more of them.
MOST_GIVEN = 2_000
# nats: a row moves the mean by no more, so that none decides alone.
LONGEST_STEP = 1.0
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is to be estimated: `given` over `project`'s snapshot, in as many `seconds`."""

    project: Project
    given: Examples
    seconds: float
    proxy: str | None = None
    # What both trainings start from; None: the base model.
    package: Package | None = None
    # Where finished fits are kept.
    parts: Path | None = None
    test_mode: bool = False  # few steps, few rows


@dataclass(frozen=True)
class Worth:
    """What examples add."""

    # In nats a token, with what training itself adds to its error.
    gain: Gain
    # The same by the val rows alone.
    measured: Gain
    # Mean log-likelihood a token of the reference answers.
    before: float
    after: float
    overlap: Overlap
    # Contributed rows that the candidate saw.
    learnt: int
    # Contributed rows that it could have seen.
    usable: int
    budget: Budget
    model: str  # which base model
    too_long: int
    # Val rows, of which budget.tested were scored.
    val: int
    # Every contributed row.
    advised: tuple[Advised, ...]
    # The package's own score, before any step.
    start: float | None = None
    # Val rows left out, because the package has learnt them.
    unseen: int = 0
    # Layers that no training changed.
    lower: Lower | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether both trainings were those of the recipe."""
        return self.budget.is_whole and self.lower is None


def examples_worth(asked: Asked, watched: Watch = lambda _: None) -> Worth:
    """Return what the examples `asked` for add; raise SemError when nothing fits the time."""
    began = time.monotonic()
    frozen = snapshot.load_snapshot(asked.project, None)
    parts = {name: tuple(frozen.examples(name)) for name in ("train", "val", "test")}
    more, tested = _learnt_before(asked.package, frozen, parts["val"])
    held = as_samples((*parts["val"], *parts["test"]))
    known = overlap.find_overlap(
        as_samples(asked.given.kept), as_samples((*parts["train"], *more)), held
    )
    left = tuple(one for n, one in enumerate(asked.given.kept) if n not in known.left_out)
    if not left:
        raise SemError(
            f"every one of the {len(asked.given.kept):,} examples is known already or in val or "
            "test",
            "contribute examples that the snapshot does not hold",
        )
    split = Split(parts["train"], left[:MOST_GIVEN], tested)  # in an order by lot
    with TemporaryDirectory(prefix="sem-preview-") as folder:
        seconds = asked.seconds - (time.monotonic() - began)
        found = _trained(asked, split, seconds, Path(folder), watched)
    old, new, rows = found.old, found.new, found.tested
    units = {one.id: one.unit for one in tested}
    measured = likelihood_gain(old, new, [units[row.id] for row in rows])
    return Worth(
        gain=widen_by_backtest(
            measured, found.share, backtest_widening("last" if found.bench.lower else "all")
        ),
        measured=measured,
        before=sum(old) / len(old),
        after=sum(new) / len(new),
        overlap=known,
        learnt=found.learnt,
        usable=len(left) - len(found.rows.given.too_long),
        budget=found.budget,
        model=found.bench.name,
        too_long=len(found.rows.given.too_long),
        val=len(tested),
        advised=tuple(
            advice.advised(
                asked.given.kept,
                Known(
                    asked.project.tasks,
                    parts["train"],
                    known,
                    found.pulls,
                    old,
                    frozenset(found.rows.given.too_long),
                ),
            )
        ),
        start=sum(found.start) / len(found.start) if found.start else None,
        unseen=len(parts["val"]) - len(tested),
        lower=found.bench.lower,
    )


def likelihood_gain(old: Sequence[float], new: Sequence[float], units: Sequence[str]) -> Gain:
    """Return what `new` log-likelihoods a token gain over `old` ones, with the interval over
    `units`.
    """
    change = [max(-LONGEST_STEP, min(LONGEST_STEP, b - a)) for a, b in zip(old, new, strict=True)]
    return gained([0.0] * len(change), change, units)


def widen_by_backtest(found: Gain, share: float, by: Mapping[str, float]) -> Gain:
    """Return `found` with what training adds to its error, `by` what backtests found.

    Good rows move the result, too, where others learn in their place, and by more the larger the
    `share` of the candidate's rows that is new (its square root: as a sum of so many draws). And
    the rest of a training makes a gain larger, or smaller, by a share of it.
    """
    if not by:
        return found
    noise = by["t"] * by["sd"] * math.sqrt(share / by["share"])
    up, down = ("larger", "smaller") if found.mean > 0 else ("smaller", "larger")
    below = math.hypot(found.mean - found.low, noise, by[down] * found.mean)
    above = math.hypot(found.high - found.mean, noise, by[up] * found.mean)
    return Gain(found.mean, found.mean - below, found.mean + above, found.n)


def backtest_widening(way: Literal["all", "last"]) -> Mapping[str, float]:
    """Return what backtests found of trainings of all layers, or of the last ones only."""
    return files.read_json(FITTED)[way] if FITTED.exists() else {}


@dataclass(frozen=True)
class _Found:
    """Both trainings, row by row."""

    bench: Bench
    rows: Encoded
    budget: Budget
    tested: list[Row]
    learnt: int  # contributed rows
    # Of the candidate's rows.
    share: float
    old: list[float]
    new: list[float]
    start: list[float] | None
    pulls: dict[str, Pull]


def _trained(asked: Asked, split: Split, seconds: float, folder: Path, watched: Watch) -> _Found:
    """Return both trainings of `split` that fit `seconds`.

    Each is done once, and what it found is kept.
    """
    bench, rows, budget = _chosen(asked, split, seconds, folder, watched)
    wanted = bench.job.recipe
    seen = budget.steps * wanted.effective_batch
    both = mixture.mix(rows.base.kept, rows.given.kept, seen, wanted.data_seed)
    tested = data.draw_by_seed(rows.tested.kept, budget.tested, wanted.data_seed)
    looked = data.draw_by_seed(rows.given.kept, budget.looked, wanted.data_seed)

    def once(name: str, steps: int, learnt: tuple[Row, ...], own: list[Row]) -> list[list[float]]:
        ids = [[row.id for row in part] for part in (learnt, tested, own)]
        told = [name, _words(bench), steps, ids]
        kept = cache.find_part(asked.parts, told)
        if kept is not None and [len(part) for part in kept] == [len(tested), len(own) * 2]:
            watched(f"{name}: kept from before")
            return list(kept)
        watched(f"{name}: {steps} steps")
        model = benches.train_from_start(bench, learnt, steps)
        benches.pass_frozen_layers(bench, model, [*tested, *own])
        if not own:
            made = [benches.answer_likelihoods(bench.job, model, tested), []]
        else:
            scores, pulls = gradient_likeness.pulls(bench.job, model, tested, own)
            made = [scores, [value for one in pulls for value in (one.score, one.likeness)]]
        return cache.keep_part(asked.parts, told, made)

    start = once("package", 0, (), [])[0] if asked.package else None
    old, flat = once("baseline", budget.steps, both.base, looked)
    new = once("candidate", budget.steps, both.mixed, [])[0]
    pulls = {row.id: Pull(*flat[n * 2 : n * 2 + 2]) for n, row in enumerate(looked)}
    share = both.given / len(both.mixed)
    return _Found(bench, rows, budget, tested, both.given, share, old, new, start, pulls)


def _learnt_before(
    package: Package | None, frozen: Snapshot, val: tuple[Example, ...]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return what `package` has learnt from beside `frozen`, and the rows of `val` that it has
    not.
    """
    if package is None or package.learnt.sha256 == frozen.sha256:
        return (), val
    learnt = tuple(package.learnt.examples("train"))
    seen = overlap.find_overlap(as_samples(val), (), as_samples(learnt)).benchmark
    tested = tuple(one for number, one in enumerate(val) if number not in seen)
    if len(tested) < 2:
        raise SemError(
            f"{package.folder}: has learnt {len(seen)} of the {len(val)} val rows",
            "give a package that was trained on the latest snapshot",
        )
    return learnt, tested


def _chosen(
    asked: Asked, split: Split, seconds: float, folder: Path, watched: Watch
) -> tuple[Bench, Encoded, Budget]:
    """Return the first way to train that fits `seconds`, and how much of it does.

    What was chosen before a preview was killed is chosen again.
    """
    began, tried = time.monotonic(), []
    encoded: dict[str, Encoded] = {}
    kept = cache.find_part(asked.parts, ["chosen"])
    for bench in _ways(asked, folder):
        told = {"name": bench.name, "trained_layers": bench.lower.trained if bench.lower else None}
        if kept and kept["way"] != told:
            continue
        if bench.name not in encoded:
            encoded[bench.name] = benches.encoded(bench, split)
        rows = encoded[bench.name]
        if kept:
            return bench, rows, Budget(**kept["budget"])
        watched(f"warm-up: {_words(bench)}")
        budget = _measured(bench, rows, asked, seconds - (time.monotonic() - began))
        if budget.steps >= FEWEST_STEPS:
            cache.keep_part(asked.parts, ["chosen"], {"way": told, "budget": asdict(budget)})
            return bench, rows, budget
        tried.append(f"{_words(bench)}: {budget.seconds_a_step:.1f} s a step")
    raise SemError(
        f"{FEWEST_STEPS} steps of two trainings do not fit {seconds:.0f} s: {'; '.join(tried)}",
        "give more --seconds"
        + ("" if asked.package else ", or name a smaller model as `proxy` in preview.yaml"),
    )


def _ways(asked: Asked, folder: Path) -> Iterator[Bench]:
    """Yield the ways to train, the truest first.

    The sem's model, the proxy, the model's last layers.
    """
    name = asked.project.base_model_id
    own = benches.prepared(asked.project, name, folder, asked.package)
    yield own
    if asked.proxy and asked.package is None:
        yield benches.prepared(asked.project, asked.proxy, folder)
    shallow = benches.shallow(own)
    if shallow:
        yield shallow


def _measured(bench: Bench, rows: Encoded, asked: Asked, seconds: float) -> Budget:
    """Return what fits `seconds` less what measuring takes."""
    began = time.monotonic()

    def budget(pace: Pace) -> Budget:
        return afford.budget(bench, rows, pace, seconds - (time.monotonic() - began))

    pace = benches.measure_token_pace(bench, rows, lambda pace: budget(pace).steps >= FEWEST_STEPS)
    found = budget(pace)
    return afford.least(found) if asked.test_mode else found


def _words(bench: Bench) -> str:
    lower = bench.lower
    return f"{bench.name}, last {lower.trained} of {lower.of} layers" if lower else bench.name
