"""A preview from the file to the document: read, compared, estimated, judged row by row."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sem.core.errors import SemError
from sem.core.project import Project
from sem.preview import contribution, decision, estimate, influence, overlap, sources
from sem.preview.contribution import Contribution, Sample
from sem.preview.document import Found
from sem.preview.estimate import Rows
from sem.preview.learners import Budget
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
    known = overlap.find(own, compared.base, compared.benchmark)
    left = sources.without(own, known.benchmark)
    if not left:
        raise SemError(
            f"{options.path}: every one of its {len(own):,} rows is in the benchmark",
            "contribute rows that the benchmark does not hold",
        )
    rows = Rows(given.shape, compared.base, left, compared.benchmark)
    steps = TEST_STEPS if options.test_mode else Budget().steps
    budget = Budget(steps, began + options.seconds * FOR_ESTIMATE)
    found = estimate.estimate(rows, budget, watched=watched)
    watched("rows")
    shares = influence.values(rows)
    doubted = influence.doubts(rows, Budget(steps // 4, began + options.seconds))
    return Found(
        contribution=given,
        rows=rows,
        overlap=known,
        estimate=found,
        judged=influence.judged(own, shares, doubted, known),
        gaps=influence.gaps(rows),
        decision=decision.decide(found.gain, compared.min_points),
        benchmark=compared.words,
        at=at,
        seconds=time.monotonic() - began,
        seed=options.seed,
        test_mode=options.test_mode,
    )


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
