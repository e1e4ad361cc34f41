"""What a contribution is compared with: base rows, a benchmark, and who says so.

`preview.yaml` of a sem names both files. Without one the contribution is cut in three: what the
second part adds to the first, on the third. That says what more data of this kind are worth, not
what they are worth to a model that exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sem.core.errors import SemError
from sem.core.project import Project
from sem.preview.contribution import contribution
from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Contribution, Sample
from sem.preview.stats.decision import MIN_POINTS

# Base up to the first, contribution up to the second, then the benchmark.
SHARES = (0.4, 0.8)
# rows: more take longer and decide nothing else.
MOST_BENCHMARK = 5_000
# Rows that can be cut in three.
FEWEST = 10


@dataclass(frozen=True)
class PreviewSettings:
    """configs/SEM/preview.yaml."""

    # File of the rows the model has learnt from, below the root; "": examples.
    base: str = ""
    # File of the rows it is tested on, never learnt from.
    benchmark: str = ""
    # What counts as an improvement.
    min_points: float = MIN_POINTS
    # What labels are; auto: as they look.
    target: Literal["auto", "classes", "number"] = "auto"
    # Base rows that are learnt from at most.
    sample_size: int = 10_000
    # For examples: a smaller base model, when the sem's does not fit.
    proxy: str | None = None
    # For examples: what counts as an improvement, a token.
    min_nats: float = 0.01

    @property
    def is_of_examples(self) -> bool:
        """Return whether a contribution holds examples of the sem's task, and no classes."""
        return not self.base and not self.benchmark


@dataclass(frozen=True)
class ComparisonData:
    """The base rows and the benchmark, and what they are in words."""

    base: tuple[Sample, ...]
    benchmark: tuple[Sample, ...]
    words: str
    min_points: float = MIN_POINTS


def load_preview_settings(project: Project) -> PreviewSettings:
    """preview.yaml of `project`.

    Raise SemError where neither it nor a task says what to compare with.
    """
    if not (project.configs / "preview.yaml").exists():
        if any((project.configs / "tasks").glob("*")):
            return project.settings("preview", PreviewSettings)
        raise SemError(
            f"{project.sem} has no preview.yaml: nothing says what to compare with",
            "write base and benchmark there, or leave out --sem to cut the contribution in three",
        )
    return project.settings("preview", PreviewSettings)


def of_sem(
    project: Project, preview_settings: PreviewSettings, seed: int
) -> tuple[ComparisonData, ColumnShape]:
    """Return what `project`'s preview.yaml names, and the shape that a contribution must have."""
    path = path_below_root(project, preview_settings.base)
    base = contribution.read_contribution(
        path, preview_settings.sample_size, seed, target=preview_settings.target
    )
    tested = contribution.read_contribution(
        path_below_root(project, preview_settings.benchmark), MOST_BENCHMARK, seed, base.shape
    )
    words = f"{preview_settings.benchmark} of {project.sem}"
    compared = ComparisonData(
        tuple(base.samples), tuple(tested.samples), words, preview_settings.min_points
    )
    return compared, base.shape


def path_below_root(project: Project, name: str) -> Path:
    """Return the file `name` below `project`'s root.

    Raise SemError when it lies elsewhere or is none.
    """
    path = project.root / name
    if not path.resolve().is_relative_to(project.root.resolve()):
        raise SemError(
            f"preview.yaml: {name} is not below {project.root}", "copy the file into data/SEM/"
        )
    contribution.check_contribution(path)
    return path


def of_itself(source: Contribution, seed: int) -> tuple[ComparisonData, tuple[Sample, ...]]:
    """Return `source` cut in three by content, so that twins stay together.

    The parts and what is given.
    """
    parts: tuple[list[Sample], ...] = ([], [], [])
    for sample in source.samples:
        parts[sum(sample.lot(f"cut {seed}") >= share for share in SHARES)].append(sample)
    base, own, benchmark = map(tuple, parts)
    name, different = source.manifest["source_path"], len({s.content() for s in source.samples})
    if len(source.samples) < FEWEST or len(benchmark) < 2 or not base or not own:
        raise SemError(
            f"{name}: cannot be cut into base, contribution and benchmark: "
            f"{len(source.samples):,} usable, {different:,} different",
            f"give {FEWEST} different rows or more, or --sem with a preview.yaml",
        )
    if len({sample.label for sample in source.samples}) < 2:
        raise SemError(
            f"{name}: all rows are of one class, {source.samples[0].label!r}: nothing to tell "
            "apart",
            "compare it with a sem that knows other classes: --sem",
        )
    return ComparisonData(base, benchmark, "a fifth of the contribution, held out"), own


def exclude_rows(samples: Sequence[Sample], rows: frozenset[int]) -> tuple[Sample, ...]:
    """Return `samples` but for those numbered `rows`."""
    return tuple(sample for number, sample in enumerate(samples) if number not in rows)
