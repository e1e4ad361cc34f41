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
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sem.core import files
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.projects import SHIPPED
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot
from sem.preview.contribution import overlap
from sem.preview.contribution.examples import Examples, as_samples
from sem.preview.contribution.overlap import Overlap
from sem.preview.linear import cache
from sem.preview.lora import advice, gradient_likeness
from sem.preview.lora import bench as benches
from sem.preview.lora.advice import AdviceContext, ExampleAdvice
from sem.preview.lora.bench import Bench, EncodedSplit, ExampleSplit, TokenPace
from sem.preview.lora.frozen_layers import FrozenLayers
from sem.preview.lora.gradient_likeness import GradientLikeness
from sem.preview.lora.packaged import StartPackage
from sem.preview.stats.paired_gain import PairedGain, measure_paired_gain
from sem.train.rows import data
from sem.train.rows.data import TrainingRow

# What of two trainings of a model fits the time: steps, rows that are scored, rows looked at.
#
# Scoring takes about a fifth of the time and the look at contributed rows a tenth. Where a
# training ends sooner, because the recipe asks for no more steps, what is left goes to both.

# Of the time: what a forecast may take.
SPARE = 0.9
# Below them nothing is learnt that could be compared.
FEWEST_STEPS = 4
# Val rows below which an interval says little.
FEWEST_TESTED = 24
TESTED, LOOKED = 0.2, 0.1  # of the time


@dataclass(frozen=True)
class LoraBudget:
    """What is done."""

    steps: int  # of each training
    # Val rows, drawn by lot.
    tested: int
    # Contributed rows, drawn by lot.
    looked: int
    # What the recipe asks for: one training of the full pipeline.
    of_steps: int
    seconds_a_step: float

    @property
    def is_whole(self) -> bool:
        """Return whether each training is as long as the recipe says."""
        return self.steps >= self.of_steps

    @property
    def is_enough(self) -> bool:
        """Return whether its trainings tell anything; a whole one does, however short it is."""
        return self.steps >= min(FEWEST_STEPS, self.of_steps)


def affordable_budget(
    bench: Bench, rows: EncodedSplit, pace: TokenPace, seconds: float
) -> LoraBudget:
    """Return what fits `seconds` at `pace`; its steps may be too few."""
    available_s, of_steps = seconds * SPARE, recipe_steps(bench, rows)
    scorings = 3 if bench.package else 2
    step = benches.seconds_a_step(bench, rows, pace)
    both = 2 * step + benches.seconds_below(bench, rows, pace)
    a_test = benches.seconds_a_row(rows.tested, pace, scorings)
    a_look = benches.seconds_a_row(rows.given, pace)

    def spent(for_tests: float, for_looks: float) -> tuple[int, int]:
        tested = max(FEWEST_TESTED, int(for_tests / a_test))
        return min(tested, len(rows.tested.kept)), min(
            max(0, int(for_looks / a_look)), len(rows.given.kept)
        )

    tested, looks = spent(available_s * TESTED, available_s * LOOKED)
    steps = int((available_s - tested * a_test - looks * a_look) / both)
    if steps < FEWEST_STEPS:
        looks, steps = 0, int((available_s - tested * a_test) / both)
    if steps >= of_steps:
        rest = available_s - of_steps * both
        tested, _ = spent(rest * TESTED / (TESTED + LOOKED), 0.0)
        _, looks = spent(0.0, rest - tested * a_test)
        steps = of_steps
    return LoraBudget(max(0, steps), tested, looks, of_steps, step)


def minimal_budget(budget: LoraBudget) -> LoraBudget:
    """No more of `budget` than shows that the whole path works (`--test-mode`)."""
    return replace(
        budget,
        steps=min(budget.steps, FEWEST_STEPS),
        tested=min(budget.tested, FEWEST_TESTED),
        looked=min(budget.looked, FEWEST_TESTED),
    )


def recipe_steps(bench: Bench, rows: EncodedSplit) -> int:
    """Optimizer steps that the recipe asks for with the contribution."""
    recipe = bench.job.recipe
    count = len(rows.base.kept) + len(rows.given.kept)
    count = min(count, recipe.max_train_examples or count)
    return max(1, round(-(-count // recipe.effective_batch) * recipe.epochs))


# Which rows both trainings see, where the time is less than one pass over all of them.
#
# The candidate's rows are the baseline's, but for the contribution's share of them: so the two
# differ by the contribution and by nothing else.


@dataclass(frozen=True)
class Mixture:
    """What baseline and candidate learn from."""

    base: tuple[TrainingRow, ...]
    mixed: tuple[TrainingRow, ...]
    # Contributed rows among MIXED.
    given: int


def mix_training_rows(
    base: Sequence[TrainingRow], contribution: Sequence[TrainingRow], count: int, seed: int
) -> Mixture:
    """Return at most `count` rows for each training, drawn by `seed`.

    All of them where `count` holds them.
    """
    total = len(base) + len(contribution)
    if count >= total:
        return Mixture(tuple(base), (*base, *contribution), len(contribution))
    lot = random.Random(seed)
    old, new = (lot.sample(rows, len(rows)) for rows in (_by_id(base), _by_id(contribution)))
    share = min(len(new), max(1, round(count * len(new) / total)))
    return Mixture(
        tuple(old[: min(count, len(old))]), (*old[: count - share], *new[:share]), share
    )


def _by_id(rows: Sequence[TrainingRow]) -> list[TrainingRow]:
    return sorted(rows, key=lambda row: row.id)


FITTED = SHIPPED / "preview_examples.json"
# Contributed rows that are read as tokens: no preview learns more of them.
MOST_GIVEN = 2_000
# nats: a row moves the mean by no more, so that none decides alone.
LONGEST_STEP = 1.0
Watch = Callable[[str], None]


@dataclass(frozen=True)
class LoraRequest:
    """What is to be estimated: `given` over `project`'s snapshot, in as many `seconds`."""

    project: Project
    given: Examples
    seconds: float
    proxy: str | None = None
    # What both trainings start from; None: the base model.
    package: StartPackage | None = None
    # Where finished fits are kept.
    parts: Path | None = None
    test_mode: bool = False  # few steps, few rows


@dataclass(frozen=True)
class ExampleWorth:
    """What examples add."""

    # In nats a token, with what training itself adds to its error.
    gain: PairedGain
    # The same by the val rows alone.
    measured: PairedGain
    # Mean log-likelihood a token of the reference answers.
    before: float
    after: float
    overlap: Overlap
    # Contributed rows that the candidate saw.
    learnt: int
    # Contributed rows that it could have seen.
    usable: int
    budget: LoraBudget
    model: str  # which base model
    too_long: int
    # Val rows, of which budget.tested were scored.
    val: int
    # Every contributed row.
    advised: tuple[ExampleAdvice, ...]
    # The package's own score, before any step.
    start: float | None = None
    # Val rows left out, because the package has learnt them.
    unseen: int = 0
    # Layers that no training changed.
    lower: FrozenLayers | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether both trainings were those of the recipe."""
        return self.budget.is_whole and self.lower is None


def examples_worth(request: LoraRequest, watched: Watch = lambda _: None) -> ExampleWorth:
    """Return what the requested examples add; raise SemError when nothing fits the time."""
    began = time.monotonic()
    frozen = snapshot.load_snapshot(request.project, None)
    parts = {name: tuple(frozen.examples(name)) for name in ("train", "val", "test")}
    more, tested = _learnt_before(request.package, frozen, parts["val"])
    held = as_samples((*parts["val"], *parts["test"]))
    row_overlap = overlap.find_overlap(
        as_samples(request.given.kept), as_samples((*parts["train"], *more)), held
    )
    new_examples = tuple(
        example for n, example in enumerate(request.given.kept) if n not in row_overlap.left_out
    )
    if not new_examples:
        raise SemError(
            f"every one of the {len(request.given.kept):,} examples is known already or in val or "
            "test",
            "contribute examples that the snapshot does not hold",
        )
    split = ExampleSplit(parts["train"], new_examples[:MOST_GIVEN], tested)  # in an order by lot
    with TemporaryDirectory(prefix="sem-preview-") as folder:
        seconds = request.seconds - (time.monotonic() - began)
        result = _trained(request, split, seconds, Path(folder), watched)
    old, new, rows = result.old, result.new, result.tested
    units = {example.id: example.unit for example in tested}
    measured = likelihood_gain(old, new, [units[row.id] for row in rows])
    return ExampleWorth(
        gain=widen_by_backtest(
            measured, result.share, backtest_widening("last" if result.bench.lower else "all")
        ),
        measured=measured,
        before=sum(old) / len(old),
        after=sum(new) / len(new),
        overlap=row_overlap,
        learnt=result.learnt,
        usable=len(new_examples) - len(result.rows.given.too_long),
        budget=result.budget,
        model=result.bench.name,
        too_long=len(result.rows.given.too_long),
        val=len(tested),
        advised=tuple(
            advice.advise_examples(
                request.given.kept,
                AdviceContext(
                    request.project.tasks,
                    parts["train"],
                    row_overlap,
                    result.pulls,
                    old,
                    frozenset(result.rows.given.too_long),
                ),
            )
        ),
        start=sum(result.start) / len(result.start) if result.start else None,
        unseen=len(parts["val"]) - len(tested),
        lower=result.bench.lower,
    )


def likelihood_gain(
    old: Sequence[float], new: Sequence[float], units: Sequence[str]
) -> PairedGain:
    """Return what `new` log-likelihoods a token gain over `old` ones, with the interval over
    `units`.
    """
    change = [max(-LONGEST_STEP, min(LONGEST_STEP, b - a)) for a, b in zip(old, new, strict=True)]
    return measure_paired_gain([0.0] * len(change), change, units)


def widen_by_backtest(gain: PairedGain, share: float, by: Mapping[str, float]) -> PairedGain:
    """Return `gain` with what training adds to its error, `by` what backtests found.

    Good rows move the result, too, where others learn in their place, and by more the larger the
    `share` of the candidate's rows that is new (its square root: as a sum of so many draws). And
    the rest of a training makes a gain larger, or smaller, by a share of it.
    """
    if not by:
        return gain
    noise = by["t"] * by["sd"] * math.sqrt(share / by["share"])
    up, down = ("larger", "smaller") if gain.mean > 0 else ("smaller", "larger")
    below = math.hypot(gain.mean - gain.low, noise, by[down] * gain.mean)
    above = math.hypot(gain.high - gain.mean, noise, by[up] * gain.mean)
    return PairedGain(gain.mean, gain.mean - below, gain.mean + above, gain.n)


def backtest_widening(way: Literal["all", "last"]) -> Mapping[str, float]:
    """Return what backtests found of trainings of all layers, or of the last ones only."""
    return files.read_json(FITTED)[way] if FITTED.exists() else {}


@dataclass(frozen=True)
class _TrainedPair:
    """Both trainings, row by row."""

    bench: Bench
    rows: EncodedSplit
    budget: LoraBudget
    tested: list[TrainingRow]
    learnt: int  # contributed rows
    # Of the candidate's rows.
    share: float
    old: list[float]
    new: list[float]
    start: list[float] | None
    pulls: dict[str, GradientLikeness]


def _trained(
    request: LoraRequest, split: ExampleSplit, seconds: float, folder: Path, watched: Watch
) -> _TrainedPair:
    """Return both trainings of `split` that fit `seconds`.

    Each is done once, and what it found is kept.
    """
    bench, rows, budget = _chosen(request, split, seconds, folder, watched)
    recipe = bench.job.recipe
    row_count = budget.steps * recipe.effective_batch
    both = mix_training_rows(rows.base.kept, rows.given.kept, row_count, recipe.data_seed)
    tested = data.draw_by_seed(rows.tested.kept, budget.tested, recipe.data_seed)
    look_rows = data.draw_by_seed(rows.given.kept, budget.looked, recipe.data_seed)

    def once(
        name: str, steps: int, train_rows: tuple[TrainingRow, ...], own: list[TrainingRow]
    ) -> list[list[float]]:
        ids = [[row.id for row in part] for part in (train_rows, tested, own)]
        inputs = [name, _words(bench), steps, ids]
        kept_results = cache.find_part(request.parts, inputs)
        if kept_results is not None and [len(part) for part in kept_results] == [
            len(tested),
            len(own) * 2,
        ]:
            watched(f"{name}: kept from before")
            return list(kept_results)
        watched(f"{name}: {steps} steps")
        model = benches.train_from_start(bench, train_rows, steps)
        benches.pass_frozen_layers(bench, model, [*tested, *own])
        if not own:
            results = [benches.answer_likelihoods(bench.job, model, tested), []]
        else:
            scores, pulls = gradient_likeness.measure_gradient_likeness(
                bench.job, model, tested, own
            )
            results = [scores, [value for pull in pulls for value in (pull.score, pull.likeness)]]
        return cache.keep_part(request.parts, inputs, results)

    start = once("package", 0, (), [])[0] if request.package else None
    old, flat = once("baseline", budget.steps, both.base, look_rows)
    new = once("candidate", budget.steps, both.mixed, [])[0]
    pulls = {row.id: GradientLikeness(*flat[n * 2 : n * 2 + 2]) for n, row in enumerate(look_rows)}
    share = both.given / len(both.mixed)
    return _TrainedPair(bench, rows, budget, tested, both.given, share, old, new, start, pulls)


def _learnt_before(
    package: StartPackage | None, frozen: Snapshot, val: tuple[Example, ...]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return what `package` has learnt from beside `frozen`, and the rows of `val` that it has
    not.
    """
    if package is None or package.learnt.sha256 == frozen.sha256:
        return (), val
    train = tuple(package.learnt.examples("train"))
    duplicates = overlap.find_overlap(as_samples(val), (), as_samples(train)).benchmark
    tested = tuple(example for number, example in enumerate(val) if number not in duplicates)
    if len(tested) < 2:
        raise SemError(
            f"{package.folder}: was trained on {len(duplicates)} of the {len(val)} val rows",
            "give a package that was trained on the latest snapshot",
        )
    return train, tested


def _chosen(
    request: LoraRequest, split: ExampleSplit, seconds: float, folder: Path, watched: Watch
) -> tuple[Bench, EncodedSplit, LoraBudget]:
    """Return the first way to train that fits `seconds`, and how much of it does.

    What was chosen before a preview was killed is chosen again.
    """
    began, attempts = time.monotonic(), []
    encoded: dict[str, EncodedSplit] = {}
    choice = cache.find_part(request.parts, ["chosen"])
    for bench in _ways(request, folder):
        way = {"name": bench.name, "trained_layers": bench.lower.trained if bench.lower else None}
        if choice and choice["way"] != way:
            continue
        if bench.name not in encoded:
            encoded[bench.name] = benches.encode_split(bench, split)
        rows = encoded[bench.name]
        if choice:
            return bench, rows, LoraBudget(**choice["budget"])
        watched(f"warm-up: {_words(bench)}")
        budget = _measured(bench, rows, request, seconds - (time.monotonic() - began))
        if budget.is_enough:
            cache.keep_part(request.parts, ["chosen"], {"way": way, "budget": asdict(budget)})
            return bench, rows, budget
        attempts.append(f"{_words(bench)}: {budget.seconds_a_step:.1f} s a step")
    raise SemError(
        f"{FEWEST_STEPS} steps of two trainings do not fit {seconds:.0f} s: {'; '.join(attempts)}",
        "give more --seconds"
        + ("" if request.package else ", or name a smaller model as `proxy` in preview.yaml"),
    )


def _ways(request: LoraRequest, folder: Path) -> Iterator[Bench]:
    """Yield the ways to train, the most faithful first.

    They are the sem's model, the proxy and the last layers of the model.
    """
    name = request.project.base_model_id
    own = benches.prepare_bench(request.project, name, folder, request.package)
    yield own
    if request.proxy and request.package is None:
        yield benches.prepare_bench(request.project, request.proxy, folder)
    shallow = benches.build_shallow_bench(own)
    if shallow:
        yield shallow


def _measured(
    bench: Bench, rows: EncodedSplit, request: LoraRequest, seconds: float
) -> LoraBudget:
    """Return what fits `seconds` less what measuring takes."""
    began = time.monotonic()

    def budget(pace: TokenPace) -> LoraBudget:
        return affordable_budget(bench, rows, pace, seconds - (time.monotonic() - began))

    pace = benches.measure_token_pace(bench, rows, lambda pace: budget(pace).steps >= FEWEST_STEPS)
    time_budget = budget(pace)
    return minimal_budget(time_budget) if request.test_mode else time_budget


def _words(bench: Bench) -> str:
    lower = bench.lower
    return f"{bench.name}, last {lower.trained} of {lower.of} layers" if lower else bench.name
