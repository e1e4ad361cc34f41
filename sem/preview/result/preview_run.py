"""A preview from the file to the document: read, compared, estimated, judged row by row."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.preview.contribution import contribution, overlap
from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Contribution, Sample
from sem.preview.contribution.encoders import NumberEncoder
from sem.preview.linear import cache, estimate, influence, kept_fits, linear_models
from sem.preview.linear import kept_fits as fits
from sem.preview.linear.estimate import LADDER, EstimateRows, draw_nested_sample
from sem.preview.linear.influence import CoverageGaps, JudgedRow
from sem.preview.linear.learners import FitBudget, Model
from sem.preview.result import sources
from sem.preview.result.document import ContributionWorth, PreviewResult
from sem.preview.result.sources import ComparisonData
from sem.preview.stats import decision

# How much fits the time: a warm-up is measured, and the contribution cut to what fits.
#
# The time of a fit grows with its rows, its classes and its steps; the warm-up knows how fast
# this machine is now. What is cut is said: the rest of the contribution is left to the learning
# curve.

WARM_ROWS = 300
WARM_STEPS = 5
# Until a fit stands still.
USUAL_STEPS = 20
# Rows below which nothing is cut.
FEWEST = 200


@dataclass(frozen=True)
class FitPace:
    """Seconds of one row, class and step on this machine now."""

    seconds: float

    def of(self, base: int, contribution: int, classes: int, steps: int) -> float:
        """Seconds that the baseline and every rung of the ladder take."""
        row_count = base + sum(base + share * contribution for share in LADDER)
        return self.seconds * row_count * classes * min(steps, USUAL_STEPS)


def measure_fit_pace(rows: EstimateRows, budget: FitBudget) -> FitPace:
    """Return the pace of a few steps on a few of the rows."""
    few = draw_nested_sample(rows.base, min(1.0, WARM_ROWS / len(rows.base)))
    warm_budget = replace(budget, steps=WARM_STEPS, deadline=None)
    fit = fits.choose_fit(rows.features)
    # The first loads libraries.
    fit(rows.features, few, warm_budget, passes=1)
    began = time.perf_counter()
    fit(rows.features, few, warm_budget, passes=WARM_STEPS)
    spent = time.perf_counter() - began
    return FitPace(spent / (len(few) * _classes(rows, few) * WARM_STEPS))


def cut_to_seconds(
    rows: EstimateRows, pace: FitPace, budget: FitBudget, seconds: float
) -> tuple[EstimateRows, tuple[str, ...]]:
    """Return `rows` whose estimate fits `seconds` at `pace`, and what was cut in words.

    The contribution is cut first, to a tenth at most, then the base rows.
    """
    classes = _classes(rows, (*rows.base, *rows.given))

    def fits(base: int, contribution: int) -> bool:
        return pace.of(base, contribution, classes, budget.steps) <= seconds

    base, contribution = len(rows.base), len(rows.given)
    least = min(contribution, max(FEWEST, contribution // 10))
    while contribution > least and not fits(base, contribution):
        contribution = max(least, contribution * 4 // 5)
    while base > FEWEST and not fits(base, contribution):
        base = max(FEWEST, base * 4 // 5)
    if (base, contribution) == (len(rows.base), len(rows.given)):
        return rows, ()
    notes = [
        f"time_box: {count:,} of {whole:,} {what} rows are learnt from"
        for count, whole, what in (
            (contribution, len(rows.given), "contributed"),
            (base, len(rows.base), "base"),
        )
        if count < whole
    ]
    return rows.only(base, contribution), tuple(notes)


def _classes(rows: EstimateRows, samples: Sequence[Sample]) -> int:
    """Classes that `samples` of `rows` are told apart in; a number is as one."""
    return 1 if rows.shape.is_of_numbers else len({sample.label for sample in samples})


# Of the contribution in test mode.
TEST_ROWS = 500
TEST_STEPS = 25
# Of the time; the rest is for the rows.
FOR_ESTIMATE = 0.6


@dataclass(frozen=True)
class PreviewOptions:
    """What the command line says."""

    path: Path
    sample_size: int = 10_000
    seed: int = 42
    # Few rows, few steps: the whole path in seconds.
    test_mode: bool = False
    seconds: float = 270.0
    # a model of the base rows, in place of the one that is trained.
    baseline: Path | None = None
    # Where models of base rows are kept.
    cache: Path | None = None
    # Where finished fits are kept until the preview is done.
    parts: Path | None = None
    # What labels are: classes, number, or as they look.
    target: str = "auto"


@dataclass(frozen=True)
class EstimateRequest:
    """What is to be estimated: `own` rows, a sample of `total`, against what `compared` holds."""

    shape: ColumnShape
    compared: ComparisonData
    own: tuple[Sample, ...]
    total: int


@dataclass(frozen=True)
class FitLimits:
    """How much may be spent: steps of a fit, seconds since the time.monotonic() of `began`."""

    steps: int
    seconds: float
    began: float
    strength: float | None = None
    parts: Path | None = None


def preview_rows(
    options: PreviewOptions,
    project: Project | None,
    at: datetime,
    watched: Callable[[str], None] = lambda _: None,
) -> PreviewResult:
    """Return the preview of `options` for `project`, or of the contribution by itself, at the time
    `at`.
    """
    began = time.monotonic()
    watched("reading")
    source, compared, own = _read(options, project)
    steps = TEST_STEPS if options.test_mode else FitBudget().steps
    box = FitLimits(steps, options.seconds, began, parts=options.parts)
    total = source.size if project else len(own)
    baseline, notes = _baseline(options, source.shape, compared, steps)
    worth = rows_worth(EstimateRequest(source.shape, compared, own, total), box, baseline, watched)
    worth = replace(worth, notes=(*notes, *worth.notes))
    _keep(options, worth, steps)
    watched("rows")
    judged_rows, gaps = _judged(
        worth, own, FitBudget(steps // 4, began + options.seconds, parts=options.parts)
    )
    return PreviewResult(
        contribution=source,
        worth=worth,
        judged=judged_rows,
        gaps=gaps,
        decision=decision.decide_gain(worth.expected, compared.min_points),
        benchmark=compared.words,
        at=at,
        seconds=time.monotonic() - began,
        seed=options.seed,
        test_mode=options.test_mode,
    )


def _judged(
    worth: ContributionWorth, own: tuple[Sample, ...], budget: FitBudget
) -> tuple[list[JudgedRow], CoverageGaps | None]:
    """Return what to do with each row, and which gaps are filled.

    Where the target is a number, only the overlap is known.
    """
    if worth.rows.shape.is_of_numbers:
        return influence.advise_rows(own, [0.0] * len(own), {}, worth.overlap), None
    shares = influence.shapley_values(worth.rows)
    doubts = influence.doubtful_labels(worth.rows, budget)
    judged_rows = influence.advise_rows(own, shares.tolist(), doubts, worth.overlap)
    return judged_rows, influence.find_coverage_gaps(worth.rows)


def rows_worth(
    request: EstimateRequest,
    box: FitLimits,
    baseline: Model | None = None,
    watched: Callable[[str], None] = lambda _: None,
) -> ContributionWorth:
    """Return what the requested rows add.

    Rows of the benchmark are left out; the time is measured, then models are trained and
    extrapolated.
    """
    own, compared = request.own, request.compared
    row_overlap = overlap.find_overlap(own, compared.base, compared.benchmark)
    if len(row_overlap.benchmark) == len(own):
        raise SemError(
            f"every one of the {len(own):,} contributed rows is in the benchmark",
            "contribute rows that the benchmark does not hold",
        )
    new_rows = sources.exclude_rows(own, row_overlap.left_out)
    rows = EstimateRows(request.shape, compared.base, new_rows, compared.benchmark)
    until = box.began + box.seconds * FOR_ESTIMATE
    budget = FitBudget(box.steps, until, box.strength, box.parts)
    watched("warm-up")
    train_rows, notes = _cut(rows, budget, until)
    if len(train_rows.base) < len(rows.base):
        # It knows rows that the candidate would not.
        baseline = None
    if baseline is not None:
        baseline = kept_fits.kept_joined_fit(baseline, rows.features, rows.base) or baseline
    total = round(request.total * len(new_rows) / len(own))
    gain_estimate = estimate.estimate_gain(train_rows, budget, total, baseline, watched)
    unseen = 1 - gain_estimate.ladder[-1].rows / max(1, gain_estimate.reached)
    # What training adds was fitted on classes.
    of_numbers = rows.shape.is_of_numbers
    expected = (
        gain_estimate.full if of_numbers else decision.widen_gain(gain_estimate.full, unseen)
    )
    return ContributionWorth(rows, train_rows, row_overlap, gain_estimate, expected, notes)


def _cut(
    rows: EstimateRows, budget: FitBudget, until: float
) -> tuple[EstimateRows, tuple[str, ...]]:
    """Return `rows` that fit the time `until` then, and what was cut.

    As before, when it was stopped.
    """
    inputs: list[Any] = ["cut", len(rows.base), len(rows.given)]
    part = cache.find_part(budget.parts, inputs)
    if part is None:
        speed = measure_fit_pace(rows, budget)
        train_rows, notes = cut_to_seconds(rows, speed, budget, until - time.monotonic())
        cache.keep_part(
            budget.parts, inputs, [len(train_rows.base), len(train_rows.given), *notes]
        )
        return train_rows, notes
    base, own, *words = part
    return (rows.only(base, own) if words else rows), tuple(words)


def _baseline(
    options: PreviewOptions, shape: ColumnShape, compared: ComparisonData, steps: int
) -> tuple[Model | None, tuple[str, ...]]:
    """Return the model of the base rows that exists already, and notes about it.

    The user named it, or it was kept.
    """
    rows_sha256 = linear_models.rows_hash(compared.base)
    if options.baseline is None:
        return cache.load_kept_baseline(
            options.cache, _kept(rows_sha256, shape, steps), rows_sha256
        ), ()
    model, learnt_sha256 = linear_models.read_linear_model(options.baseline)
    width = len(model.encoder.medians) if isinstance(model.encoder, NumberEncoder) else 0
    if bool(model.classes) == shape.is_of_numbers:
        kind, other = ("classes", "a number") if model.classes else ("a number", "classes")
        raise SemError(
            f"{options.baseline}: a model of {kind}, not of {other}",
            "give a model of this sem's base rows",
        )
    if (model.kind, width) != (shape.kind, shape.width):
        raise SemError(
            f"{options.baseline}: a model of {model.kind}, {width} numbers a row, not of "
            f"{shape.kind}, {shape.width}",
            "give a model of this sem's base rows",
        )
    if learnt_sha256 == rows_sha256:
        return model, ()
    return model, (
        "baseline_model: it has learnt from other rows than the base; the gain holds "
        "that difference, too",
    )


def _kept(rows_sha256: str, shape: ColumnShape, steps: int) -> str:
    return cache.cache_key(["baseline", rows_sha256, shape.kind, shape.target, steps])


def _keep(options: PreviewOptions, worth: ContributionWorth, steps: int) -> None:
    """Keep the baseline for the next contribution, when it learnt from every base row."""
    model, base = worth.estimate.models[0], worth.trained.base
    if options.cache is None or options.baseline or worth.notes or not model.converged:
        return
    name = _kept(linear_models.rows_hash(base), worth.rows.shape, steps)
    cache.keep_baseline(options.cache, name, model, linear_models.rows_hash(base))


def preview_name(options: PreviewOptions, project: Project | None) -> str:
    """Return what names the preview of `options` for `project`: the contents it comes from."""
    contribution.check_contribution(options.path)
    if options.baseline:
        linear_models.refuse_code(options.baseline)
    inputs: list[Any] = [
        options.path.name,
        files.sha256_file(options.path),
        options.sample_size,
        options.seed,
        options.test_mode,
        options.seconds,
        files.sha256_file(options.baseline) if options.baseline else None,
        options.target,
    ]
    if project:
        settings = sources.load_preview_settings(project)
        paths = [
            sources.path_below_root(project, name) for name in (settings.base, settings.benchmark)
        ]
        inputs += [asdict(settings), *(files.sha256_file(path) for path in paths)]
    return cache.cache_key(inputs)


def _read(
    options: PreviewOptions, project: Project | None
) -> tuple[Contribution, ComparisonData, tuple[Sample, ...]]:
    """Return the contribution, what it is compared with, and those of its rows that are
    contributed.
    """
    most = min(options.sample_size, TEST_ROWS) if options.test_mode else options.sample_size
    if project is None:
        source = contribution.read_contribution(
            options.path, most, options.seed, target=options.target
        )
        compared, own = sources.of_itself(source, options.seed)
        return source, compared, own
    settings = sources.load_preview_settings(project)
    if options.target != "auto":
        settings = replace(settings, target=options.target)
    compared, shape = sources.of_sem(project, settings, options.seed)
    source = contribution.read_contribution(options.path, most, options.seed, shape)
    return source, compared, tuple(source.samples)
