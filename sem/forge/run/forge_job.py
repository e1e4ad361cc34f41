"""A forge run as nouns: its options, its job, which items it works on, and what came of it."""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Set, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core.errors import Insufficient, SemError
from sem.core.project import Project
from sem.dataset.config import Dataset
from sem.dataset.split import splits
from sem.dataset.store import store_writer
from sem.forge.base import BaseForge, ForgeConfig, Pair, pair_of
from sem.forge.checks.pair_quality import PairVerdict, Quality, QualityContext, sift_pairs
from sem.forge.kinds import plugins
from sem.forge.run import config as configs
from sem.forge.run.config import ForgeSettings
from sem.forge.teacher.teacher import Teacher, TeacherSpending

# Which items of a forge are worked on: all, or some that a seed draws; counted on the way.


@dataclass
class PassCount:
    """What one pass over the items met."""

    items: int = 0
    # That --limit did not draw.
    left_out: int = 0
    # Of the items, where the forge tells them.
    sources: set[str] = field(default_factory=set)


def draw_items(
    items: Iterable[Any], limit: int | None, seed: int, count: PassCount
) -> Iterator[Any]:
    """Yield `limit` of `items` in their order, drawn by `seed` from all of them.

    All without a limit.
    """
    if limit is None:
        yield from items
        return
    heap: list[tuple[int, int, Any]] = []
    for number, item in enumerate(items):
        lot = hashlib.sha256(b"%d %d" % (seed, number)).digest()
        heapq.heappush(heap, (-int.from_bytes(lot[:8], "big"), number, item))
        if len(heap) > limit:
            heapq.heappop(heap)
            count.left_out += 1
    yield from (item for _, _, item in sorted(heap, key=lambda entry: entry[1]))


def count_items(
    items: Iterable[Any], source_of: Callable[[Any], str | None], count: PassCount
) -> Iterator[Any]:
    """Yield `items` as they are; `count` learns how many, and of which sources."""
    for item in items:
        count.items += 1
        source = source_of(item)
        if source is not None:
            count.sources.add(source)
        yield item


def check_selection(project: Project, sources: Set[str], origin: str) -> None:
    """Insufficient when `sources` cannot fill the parts of a split: nobody need be asked first.

    Rows of another origin than `origin` may fill them, and without any source it is not known yet.
    """
    split, options = project.split, project.settings("dataset", Dataset).split
    ratios = (split.train_ratio, split.val_ratio, split.test_ratio)
    parts = [part for part, ratio in zip(splits.PARTS, ratios, strict=True) if ratio > 0]
    is_free = options.group_by == "row" and options.leaks.source != "repair"
    if not sources or len(sources) >= len(parts) or is_free:
        return
    if store_writer.count_other_origins(project.store, origin):
        return
    raise Insufficient(
        f"{len(sources)} of {len(parts)} sources: {', '.join(sorted(sources))} cannot fill "
        f"{', '.join(parts)}, as a source belongs to one part only; the teacher was not asked",
        "add more documents (ten or more make a test worth reading), or raise --limit",
    )


# meta.reference_source of the rows a forge run may replace.
ORIGIN = "forge"
JOURNAL = "unusable.jsonl"
# Of a run, about 3 GB: a forge without an end is stopped here.
MOST_PAIRS = 1_000_000
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class ForgeOptions:
    """What one run may do."""

    # So many items (chunks), drawn by the seed; None: all.
    limit: int | None = None
    # The cost is agreed to.
    yes: bool = False
    # a forge class that is neither ours nor installed as one.
    allow_plugins: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise SemError(f"--limit {self.limit}", "ask for 1 or more, or leave it out for all")


@dataclass
class PassResult:
    """What one pass over the sources gave."""

    config: ForgeConfig
    verdicts: list[PairVerdict]
    count: PassCount = field(default_factory=PassCount)

    @property
    def kept(self) -> list[PairVerdict]:
        return [verdict for verdict in self.verdicts if verdict.kept]


@dataclass(frozen=True)
class ForgeJob:
    """One forge over one project; `pass_over` does its work with any teacher."""

    project: Project
    settings: ForgeSettings
    forge: type[BaseForge]
    options: ForgeOptions
    # Golden and test questions.
    others: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Return where pairs and reports of the forge lie."""
        return self.project.processed / "forge"

    def pass_over(self, teacher_client: Teacher, progress: Progress | None = None) -> PassResult:
        """Return every source to verdicts on pairs, with `teacher_client` as the teacher.

        Nothing is written.
        """
        config = ForgeConfig(
            self.project,
            configs.raw_folder(self.project, self.settings),
            self.folder,
            self.settings.params,
            teacher_client,
            self.settings.seed,
            self.settings,
        )
        outcome = PassResult(config, [])
        with plugins.blame_plugin(self.forge):
            forge = self.forge(config)
            quality = forge.checks(self.settings.checks)
        if not isinstance(quality, Quality):
            raise SemError(
                f"{self.forge.__name__}.checks returns no quality settings",
                "return replace(quality, …)",
            )
        context = QualityContext(
            quality, self.others, teacher_client, self._schemas, default_task(self)
        )
        outcome.verdicts = list(sift_pairs(self._pairs(forge, outcome, progress), context))
        return outcome

    @property
    def _schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: spec.io_schema for name, spec in self.project.tasks.items()}

    def _pairs(
        self, forge: BaseForge, outcome: PassResult, progress: Progress | None
    ) -> Iterator[Pair]:
        name = type(forge).__name__
        with plugins.blame_plugin(self.forge):
            items = self._items(forge, outcome.count, progress)
            for number, pair in enumerate(forge.synthesize(items), 1):
                if number > MOST_PAIRS:
                    raise SemError(
                        f"{name}: more than {MOST_PAIRS:,} pairs", "make sure that it ends"
                    )
                yield pair_of(pair, f"{name}: pair {number}")

    def _items(self, forge: BaseForge, count: PassCount, progress: Progress | None) -> Any:
        """Return what `forge` loads, drawn and counted.

        An older one gets what it loaded, as it is.
        """
        items, limit = forge.load(), self.options.limit
        if not hasattr(type(forge), "load_data"):
            some = draw_items(items, limit, self.settings.seed, count)
            some = count_items(some, forge.source_of, count)
            return progress(some) if progress else some
        if limit is not None:
            raise SemError(
                f"--limit: {type(forge).__name__} loads everything at once",
                "leave --limit out, or name its step `load`",
            )
        count.items = len(items) if isinstance(items, Sized) else 0
        return items


@dataclass
class ForgeResult:
    """What a run made; also while it is under way."""

    made: PassResult
    spending: TeacherSpending
    # Of the store: added, unchanged, …
    rows: dict[str, int] = field(default_factory=dict)
    # train.jsonl, test.jsonl.
    parts: dict[str, int] = field(default_factory=dict)
    snapshot: str = ""
    # Rows that the forge's format made of the kept pairs.
    formatted: int = 0
    # Rows the store did not take.
    refused: dict[str, int] = field(default_factory=dict)
    # Rows that cleaning did not keep.
    uncleaned: dict[str, int] = field(default_factory=dict)
    # Of pairs.jsonl as this run wrote it.
    pairs_sha256: str = ""
    report: Path | None = None


def default_task(job: ForgeJob) -> str | None:
    """Return the task of rows that name none: the one in forge.yaml, else the sem's only one."""
    tasks = job.project.tasks
    return job.settings.task or (next(iter(tasks)) if len(tasks) == 1 else None)
