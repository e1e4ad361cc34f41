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
MOST_GIVEN = 2_000  # contributed rows that are read as tokens: no preview learns more of them
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
    test_mode: bool = False  # few steps, few rows


@dataclass(frozen=True)
class Worth:
    """What examples add."""

    gain: Gain  # in nats a token, with what training itself adds to its error
    measured: Gain  # the same by the val rows alone
    before: float  # mean log-likelihood a token of the reference answers
    after: float
    overlap: Overlap
    learnt: int  # contributed rows that the candidate saw
    usable: int  # contributed rows that it could have seen
    budget: Budget
    model: str  # which base model
    too_long: int
    val: int  # val rows, of which budget.tested were scored
    advised: tuple[Advised, ...]  # every contributed row
    start: float | None = None  # the package's own score, before any step
    unseen: int = 0  # val rows left out, because the package has learnt them
    lower: Lower | None = None  # layers that no training changed

    @property
    def is_whole(self) -> bool:
        """Whether both trainings were those of the recipe."""
        return self.budget.is_whole and self.lower is None


def examples_worth(asked: Asked, watched: Watch = lambda _: None) -> Worth:
    """What the examples ASKED for add; SemError when nothing fits the time."""
    began = time.monotonic()
    frozen = snapshot.load_snapshot(asked.project, None)
    parts = {name: tuple(frozen.examples(name)) for name in ("train", "val", "test")}
    more, tested = _learnt_before(asked.package, frozen, parts["val"])
    held = as_samples((*parts["val"], *parts["test"]))
    known = overlap.find_overlap(
        as_samples(asked.given.kept), as_samples((*parts["train"], *more)), held
    )  # fmt: skip
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
    """What NEW log-likelihoods a token gain over OLD ones, with the interval over UNITS."""
    change = [max(-LONGEST_STEP, min(LONGEST_STEP, b - a)) for a, b in zip(old, new, strict=True)]
    return gained([0.0] * len(change), change, units)


def widen_by_backtest(found: Gain, share: float, by: Mapping[str, float]) -> Gain:
    """FOUND with what training adds to its error, BY what backtests found.

    Good rows move the result, too, where others learn in their place, and by more the larger the
    SHARE of the candidate's rows that is new (its square root: as a sum of so many draws). And
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
    """What backtests found of trainings of all layers, or of the last ones only."""
    return files.read_json(FITTED)[way] if FITTED.exists() else {}


@dataclass(frozen=True)
class _Found:
    """Both trainings, row by row."""

    bench: Bench
    rows: Encoded
    budget: Budget
    tested: list[Row]
    learnt: int  # contributed rows
    share: float  # of the candidate's rows
    old: list[float]
    new: list[float]
    start: list[float] | None
    pulls: dict[str, Pull]


def _trained(asked: Asked, split: Split, seconds: float, folder: Path, watched: Watch) -> _Found:
    """Both trainings of SPLIT that fit SECONDS; each is done once, and what it found is kept."""
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
    """What PACKAGE has learnt from beside FROZEN, and the rows of VAL that it has not."""
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
    """The first way to train that fits SECONDS, and how much of it does.

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
    """The ways to train, the truest first: the sem's model, the proxy, the model's last layers."""
    name = asked.project.base_model_id
    own = benches.prepared(asked.project, name, folder, asked.package)
    yield own
    if asked.proxy and asked.package is None:
        yield benches.prepared(asked.project, asked.proxy, folder)
    shallow = benches.shallow(own)
    if shallow:
        yield shallow


def _measured(bench: Bench, rows: Encoded, asked: Asked, seconds: float) -> Budget:
    """What fits SECONDS less what measuring takes."""
    began = time.monotonic()

    def budget(pace: Pace) -> Budget:
        return afford.budget(bench, rows, pace, seconds - (time.monotonic() - began))

    pace = benches.measure_token_pace(bench, rows, lambda pace: budget(pace).steps >= FEWEST_STEPS)
    found = budget(pace)
    return afford.least(found) if asked.test_mode else found


def _words(bench: Bench) -> str:
    lower = bench.lower
    return f"{bench.name}, last {lower.trained} of {lower.of} layers" if lower else bench.name
