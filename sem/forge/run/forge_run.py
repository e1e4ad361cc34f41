"""A forge run: load, synthesize, sift, format; the rows replace those of the run before.

Files are written whole, forge.json last. A killed run is simply run again: replies come from the
cache, so nothing is asked twice, and the same bytes are written.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Set, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import Busy, Insufficient, SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.config import Dataset
from sem.dataset.ingest import importers
from sem.dataset.split import snapshot, splits
from sem.dataset.store import store_writer
from sem.forge.base import BaseForge, ForgeConfig, Pair, pair_of
from sem.forge.checks.pair_quality import Context, Quality, Verdict, sift_pairs
from sem.forge.kinds import plugins
from sem.forge.run import config as configs
from sem.forge.run import outputs
from sem.forge.run.config import ForgeSettings
from sem.forge.teacher import cost_forecast
from sem.forge.teacher.cost_forecast import Forecast, Plan
from sem.forge.teacher.teacher import Journal, Spending, Teacher, teacher

# Which items of a forge are worked on: all, or some that a seed draws; counted on the way.


@dataclass
class Count:
    """What one pass over the items met."""

    items: int = 0
    # That --limit did not draw.
    left_out: int = 0
    # Of the items, where the forge tells them.
    sources: set[str] = field(default_factory=set)


def draw_items(items: Iterable[Any], limit: int | None, seed: int, count: Count) -> Iterator[Any]:
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
    items: Iterable[Any], source_of: Callable[[Any], str | None], count: Count
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
        f"{', '.join(parts)}, and none stands on two sides; nobody was asked",
        "bring more documents (ten or more make a test worth reading), or raise --limit",
    )


# meta.reference_source of the rows a forge run may replace.
ORIGIN = "forge"
JOURNAL = "unusable.jsonl"
# Of a run, about 3 GB: a forge without an end is stopped here.
MOST_PAIRS = 1_000_000
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Options:
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
class Made:
    """What one pass over the sources gave."""

    config: ForgeConfig
    verdicts: list[Verdict]
    count: Count = field(default_factory=Count)

    @property
    def kept(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.kept]


@dataclass(frozen=True)
class Job:
    """One forge over one project; `pass_over` does its work with any teacher."""

    project: Project
    settings: ForgeSettings
    forge: type[BaseForge]
    options: Options
    # Golden and test questions.
    others: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Return where pairs and reports of the forge lie."""
        return self.project.processed / "forge"

    def pass_over(self, teacher_client: Teacher, progress: Progress | None = None) -> Made:
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
        outcome = Made(config, [])
        with plugins.blamed(self.forge):
            forge = self.forge(config)
            quality = forge.checks(self.settings.checks)
        if not isinstance(quality, Quality):
            raise SemError(
                f"{self.forge.__name__}.checks gives no quality settings",
                "return replace(quality, …)",
            )
        context = Context(
            quality, self.others, teacher_client, self._schemas, outputs.default_task(self)
        )
        outcome.verdicts = list(sift_pairs(self._pairs(forge, outcome, progress), context))
        return outcome

    @property
    def _schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: spec.io_schema for name, spec in self.project.tasks.items()}

    def _pairs(self, forge: BaseForge, outcome: Made, progress: Progress | None) -> Iterator[Pair]:
        name = type(forge).__name__
        with plugins.blamed(self.forge):
            items = self._items(forge, outcome.count, progress)
            for number, pair in enumerate(forge.synthesize(items), 1):
                if number > MOST_PAIRS:
                    raise SemError(f"{name}: more than {MOST_PAIRS:,} pairs", "see that it ends")
                yield pair_of(pair, f"{name}: pair {number}")

    def _items(self, forge: BaseForge, count: Count, progress: Progress | None) -> Any:
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


@dataclass(frozen=True)
class Prepared:
    """A job, what it would ask, and the teacher it would ask."""

    job: Job
    plan: Plan
    items: int
    at: datetime
    # What its pilot asked and paid.
    piloted: Spending = field(default_factory=Spending)

    def teacher(self, watch: Any = None, dry: bool = False) -> Teacher:
        """Return a teacher for this job; see `forge.teacher.teacher`."""
        journal = Journal(self.job.folder / JOURNAL)
        root = self.job.project.root
        return teacher(self.job.settings.teacher, root, self.at, journal, watch, dry)


@dataclass
class Forged:
    """What a run made; also while it is under way."""

    made: Made
    spending: Spending
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


def prepare_forge(project: Project, options: Options, at: datetime) -> Prepared:
    """Return the job of `project` and its plan; nothing is sent, and no key is needed."""
    loaded = configs.load_forge_config(project)
    forge = plugins.load_forge_class(
        loaded.settings.forge_class, project.root, options.allow_plugins
    )
    others = tuple(outputs.reserved_questions(project, ORIGIN))
    job = Job(project, loaded.settings, forge, options, others, loaded.notes)
    plan = Plan(loaded.settings.teacher.pilot, loaded.settings.seed)
    prepared = Prepared(job, plan, 0, at)

    def watch(teacher_client: Teacher, request: Any, is_known: bool) -> bool:
        plan.note(teacher_client, request, is_known)
        return not is_known

    outcome = job.pass_over(prepared.teacher(watch, dry=True))
    check_selection(project, outcome.count.sources, ORIGIN)
    return Prepared(job, plan, outcome.count.items, at)


def pilot(prepared: Prepared) -> Forecast | None:
    """Return what the rest of `prepared` will cost, by real calls.

    None where there is nothing to ask.
    """
    plan = prepared.plan
    if not plan.size or not plan.at_most_usd or plan.fresh <= plan.size:
        return None
    teacher_client = prepared.teacher(lambda teacher, request, _: plan.skips(teacher, request))
    teacher_client.spending = prepared.piloted
    try:
        prepared.job.pass_over(teacher_client)
    finally:
        outputs.spent(prepared.job.folder, teacher_client.spending, prepared.at)
    return cost_forecast.forecast_cost(
        plan, teacher_client.spending, teacher_client.client.settings.workers
    )


def forge(prepared: Prepared, progress: Progress | None = None) -> Forged:
    """Ask, sift and write the pairs of `prepared`; raise SemError when none of them is left."""
    job, teacher_client = prepared.job, prepared.teacher()
    with _alone(job):
        files.remove_temporary_files(job.folder, (".tmp-*",))
        try:
            outcome = job.pass_over(teacher_client, progress)
        finally:
            outputs.spent(job.folder, teacher_client.spending, prepared.at)
        forged = Forged(outcome, teacher_client.spending)
        forged.pairs_sha256 = outputs.write_pairs(job.folder, outcome)
        if not outcome.kept:
            forged.report = outputs.publish_forge(job, teacher_client.name, forged)
            raise SemError(
                f"none of {len(outcome.verdicts):,} pairs is left",
                f"the reasons are in {forged.report}; the rows of the run before stay",
            )
        _store(job, outcome, forged)
    return forged


def _store(job: Job, outcome: Made, forged: Forged) -> None:
    """Bring the rows of `outcome` into the store in place of those of the run before."""
    path = job.folder / "rows.jsonl"
    forged.formatted = files.write_rows(path, _rows(job, outcome))
    if not forged.formatted:
        raise SemError(
            f"{job.forge.__name__}.format made no row of {len(outcome.kept):,} pairs",
            "yield a row for each; the rows of the run before stay",
        )
    result = importers.Result()
    options = importers.Options(task=outputs.default_task(job))
    with (
        files.replacing(job.folder / "rejects.jsonl") as rejects,
        importers.prepare_source_rows(job.project, path, options, result, rejects) as ready,
    ):
        forged.rows = dict(vars(store_writer.exchange(job.project.store, ready, ORIGIN)))
    stored = sum(forged.rows.values()) - forged.rows["removed"]
    result.rejects["same_id"] = forged.formatted - sum(result.rejects.values()) - stored
    forged.refused = {name: count for name, count in sorted(result.rejects.items()) if count}


def _rows(job: Job, outcome: Made) -> Iterator[dict[str, Any]]:
    """Yield rows of the kept pairs, marked as the forge's, whatever a forge of one's own wrote
    there.
    """
    with plugins.blamed(job.forge):
        maker = job.forge(outcome.config)
        for number, row in enumerate(maker.format([verdict.pair for verdict in outcome.kept]), 1):
            if not isinstance(row, Mapping):
                raise SemError(
                    f"{job.forge.__name__}.format: row {number} is no mapping: {row!r:.80}",
                    "yield rows as sem.forge.base.pair_row makes them",
                )
            yield {**row, "meta": {**(row.get("meta") or {}), "reference_source": ORIGIN}}


def finish_forge(
    prepared: Prepared, forged: Forged, how: clean.How, progress: Any = None
) -> Forged:
    """Clean and cut what was forged; train.jsonl and test.jsonl, forge.json and the report.

    The report is written also where cleaning or cutting stops with a SemError.
    """
    job = prepared.job
    with _alone(job):
        if files.sha256_file(job.folder / outputs.PAIRS) != forged.pairs_sha256:
            raise Busy(
                f"another run has replaced the pairs in {job.folder}",
                "run again when it is done: replies are kept",
            )
        try:
            cleaned = clean.clean_store(job.project, how, progress)
            forged.uncleaned = dict(sorted(cleaned.tally.reasons.items()))
            frozen, _ = snapshot.freeze_snapshot(job.project, prepared.at)
            forged.snapshot = frozen.name
            forged.parts = outputs.write_parts(job.project, frozen, job.settings.format)
        finally:
            forged.report = outputs.publish_forge(job, prepared.teacher(dry=True).name, forged)
    return forged


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    with files.lock(job.folder / ".forge.lock", str(job.folder)):
        yield
