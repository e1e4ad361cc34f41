"""A preview from the file to the document: read, compared, estimated, judged row by row."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sem.core.errors import SemError
from sem.core.project import Project
from sem.preview import contribution, decision, estimate, influence, overlap, pace, sources
from sem.preview.columns import Shape
from sem.preview.contribution import Contribution, Sample
from sem.preview.document import Found, Worth
from sem.preview.estimate import Rows
from sem.preview.learners import Budget, Model
from sem.preview.sources import Compared

TEST_ROWS = 500  # of the contribution in test mode
TEST_STEPS = 25
FOR_ESTIMATE = 0.6  # of the time; the rest is for the rows


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    path: Path
    sample_size: int = 10_000
    seed: int = 42
    test_mode: bool = False  # few rows, few steps: the whole path in seconds
    seconds: float = 240.0
    baseline: Model | None = None  # of the base rows, in place of the one that is trained


@dataclass(frozen=True)
class Asked:
    """What is to be estimated: OWN rows, a sample of TOTAL, against what they are compared with."""

    shape: Shape
    compared: Compared
    own: tuple[Sample, ...]
    total: int


@dataclass(frozen=True)
class Box:
    """How much may be spent: steps of a fit, seconds since the time.monotonic() of BEGAN."""

    steps: int
    seconds: float
    began: float
    strength: float | None = None


def preview(
    options: Options,
    project: Project | None,
    at: datetime,
    watched: Callable[[str], None] = lambda _: None,
) -> Found:
    """The preview of OPTIONS for PROJECT, or of the contribution by itself, at the time AT."""
    began = time.monotonic()
    watched("reading")
    given, compared, own = _read(options, project)
    steps = TEST_STEPS if options.test_mode else Budget().steps
    box = Box(steps, options.seconds, began)
    total = given.size if project else len(own)
    found = worth(Asked(given.shape, compared, own, total), box, options.baseline, watched)
    watched("rows")
    shares = influence.values(found.rows)
    doubted = influence.doubts(found.rows, Budget(steps // 4, began + options.seconds))
    return Found(
        contribution=given,
        worth=found,
        judged=influence.judged(own, shares, doubted, found.overlap),
        gaps=influence.gaps(found.rows),
        decision=decision.decide(found.expected, compared.min_points),
        benchmark=compared.words,
        at=at,
        seconds=time.monotonic() - began,
        seed=options.seed,
        test_mode=options.test_mode,
    )


def worth(
    asked: Asked,
    box: Box,
    baseline: Model | None = None,
    watched: Callable[[str], None] = lambda _: None,
) -> Worth:
    """What the rows ASKED for add: overlap left out, time measured, trained, extrapolated."""
    own, compared = asked.own, asked.compared
    known = overlap.find(own, compared.base, compared.benchmark)
    left = sources.without(own, known.benchmark)
    if not left:
        raise SemError(
            f"every one of the {len(own):,} contributed rows is in the benchmark",
            "contribute rows that the benchmark does not hold",
        )
    rows = Rows(asked.shape, compared.base, left, compared.benchmark)
    until = box.began + box.seconds * FOR_ESTIMATE
    budget = Budget(box.steps, until, box.strength)
    watched("warm-up")
    speed = pace.measured(rows, budget)
    learnt, notes = pace.cut(rows, speed, budget, until - time.monotonic())
    total = round(asked.total * len(left) / len(own))
    found = estimate.estimate(learnt, budget, total, baseline, watched)
    return Worth(rows, known, found, decision.widened(found.full), notes)


def _read(
    options: Options, project: Project | None
) -> tuple[Contribution, Compared, tuple[Sample, ...]]:
    """The contribution, what it is compared with, and those of its rows that are contributed."""
    most = min(options.sample_size, TEST_ROWS) if options.test_mode else options.sample_size
    if project is None:
        given = contribution.read(options.path, most, options.seed)
        compared, own = sources.of_itself(given, options.seed)
        return given, compared, own
    compared, shape = sources.of_sem(project, sources.settings(project), options.seed)
    given = contribution.read(options.path, most, options.seed, shape)
    return given, compared, tuple(given.samples)
