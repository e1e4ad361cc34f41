"""A forge run: load, synthesize, sift, format; the rows replace those of the run before.

Files are written whole, forge.json last. A killed run is simply run again: replies come from the
cache, so nothing is asked twice, and the same bytes are written.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset import clean, importers, snapshot, storewrite
from sem.forge import config as configs
from sem.forge import forecast, outputs, plugins
from sem.forge.base import BaseForge, ForgeConfig, Pair, pair_of
from sem.forge.config import ForgeSettings
from sem.forge.forecast import Forecast, Plan
from sem.forge.quality import Context, Verdict, sift
from sem.forge.teacher import Journal, Spending, Teacher, teacher

ORIGIN = "forge"  # meta.reference_source of the rows a forge run may replace
JOURNAL = "unusable.jsonl"
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Options:
    """What one run may do."""

    limit: int | None = None  # so many items (chunks), drawn by the seed; None: all
    yes: bool = False  # the cost is agreed to
    allow_plugins: bool = False  # a forge class that is neither ours nor installed as one

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise SemError(f"--limit {self.limit}", "ask for 1 or more, or leave it out for all")


@dataclass
class Made:
    """What one pass over the sources gave."""

    config: ForgeConfig
    verdicts: list[Verdict]
    items: int = 0

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
    others: tuple[tuple[str, str], ...] = ()  # golden and test questions
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where pairs and reports of the forge lie."""
        return self.project.processed / "forge"

    def pass_over(self, asked: Teacher, progress: Progress | None = None) -> Made:
        """Every source to verdicts on pairs, with ASKED as the teacher; nothing is written."""
        config = ForgeConfig(
            self.project,
            configs.raw_folder(self.project, self.settings),
            self.folder,
            self.settings.params,
            asked,
            self.settings.seed,
            self.settings,
        )
        made = Made(config, [])
        forge = self.forge(config)
        pairs = self._pairs(forge, made, progress)
        quality = forge.checks(self.settings.quality)
        made.verdicts = list(sift(pairs, Context(quality, self.others, asked)))
        return made

    def _pairs(self, forge: BaseForge, made: Made, progress: Progress | None) -> Iterator[Pair]:
        items = forge.load()
        if not hasattr(type(forge), "load_data"):  # an older forge gets what it loaded, as it is
            items = _counted(drawn(items, self.options.limit, self.settings.seed), made)
            items = progress(items) if progress else items
        for number, one in enumerate(forge.synthesize(items), 1):
            yield pair_of(one, f"{type(forge).__name__}: pair {number}")


@dataclass(frozen=True)
class Prepared:
    """A job, what it would ask, and the teacher it would ask."""

    job: Job
    plan: Plan
    items: int
    at: datetime

    def teacher(self, watch: Any = None, dry: bool = False) -> Teacher:
        """A teacher for this job; see `forge.teacher.teacher`."""
        journal = Journal(self.job.folder / JOURNAL)
        root = self.job.project.root
        return teacher(self.job.settings.teacher, root, self.at, journal, watch, dry)


@dataclass
class Forged:
    """What a run made; also while it is under way."""

    made: Made
    spending: Spending
    rows: dict[str, int] = field(default_factory=dict)  # of the store: added, unchanged, …
    parts: dict[str, int] = field(default_factory=dict)  # train.jsonl, test.jsonl
    snapshot: str = ""
    refused: dict[str, int] = field(default_factory=dict)  # rows the store did not take
    report: Path | None = None


def prepare(project: Project, options: Options, at: datetime) -> Prepared:
    """The job of PROJECT and its plan; nothing is sent, and no key is needed."""
    loaded = configs.load(project)
    forge = plugins.load(loaded.settings.forge_class, project.root, options.allow_plugins)
    others = tuple(outputs.others(project, ORIGIN))
    job = Job(project, loaded.settings, forge, options, others, loaded.notes)
    plan = Plan(loaded.settings.teacher.pilot, loaded.settings.seed)
    prepared = Prepared(job, plan, 0, at)

    def watch(asked: Teacher, request: Any, is_known: bool) -> bool:
        plan.note(asked, request, is_known)
        return not is_known

    made = job.pass_over(prepared.teacher(watch, dry=True))
    return Prepared(job, plan, made.items, at)


def pilot(prepared: Prepared) -> Forecast | None:
    """What the rest of PREPARED will cost, by real calls; None where there is nothing to ask."""
    plan = prepared.plan
    if not plan.size or not plan.at_most_usd or plan.fresh <= plan.size:
        return None
    asked = prepared.teacher(lambda teacher, request, _: plan.skips(teacher, request))
    prepared.job.pass_over(asked)
    return forecast.forecast(plan, asked.spending, asked.client.settings.workers)


def forge(prepared: Prepared, progress: Progress | None = None) -> Forged:
    """Ask, sift and write the pairs of PREPARED; SemError when none of them is left."""
    job, asked = prepared.job, prepared.teacher()
    with files.lock(job.folder / ".forge.lock", str(job.folder)):
        files.sweep(job.folder)
        try:
            made = job.pass_over(asked, progress)
        finally:
            outputs.spent(job.folder, asked.spending, prepared.at)
        forged = Forged(made, asked.spending)
        outputs.write_pairs(job.folder, made.verdicts, made.config.skipped)
        if not made.kept:
            forged.report = outputs.publish(job, asked.name, forged)
            raise SemError(
                f"none of {len(made.verdicts):,} pairs is left",
                f"the reasons are in {forged.report}; the rows of the run before stay",
            )
        _store(job, made, forged)
    return forged


def _store(job: Job, made: Made, forged: Forged) -> None:
    """Bring the rows of MADE into the store in place of those of the run before."""
    maker = job.forge(made.config)
    rows = (_stamped(row) for row in maker.format([verdict.pair for verdict in made.kept]))
    path = job.folder / "rows.jsonl"
    files.write_rows(path, rows)
    result = importers.Result()
    options = importers.Options(task=outputs.task_of(job))
    with (
        files.replacing(job.folder / "rejects.jsonl") as rejects,
        importers.ready(job.project, path, options, result, rejects) as ready,
    ):
        forged.rows = dict(vars(storewrite.exchange(job.project.store, ready, ORIGIN)))
    forged.refused = dict(sorted(result.rejects.items()))


def _stamped(row: dict[str, Any]) -> dict[str, Any]:
    """ROW marked as the forge's, whatever a forge of one's own wrote there."""
    return {**row, "meta": {**(row.get("meta") or {}), "reference_source": ORIGIN}}


def finish(prepared: Prepared, forged: Forged, how: clean.How, progress: Any = None) -> Forged:
    """Clean and cut what was forged; train.jsonl and test.jsonl, forge.json and the report."""
    job = prepared.job
    clean.run(job.project, how, progress)
    frozen, _ = snapshot.freeze(job.project, prepared.at)
    forged.snapshot = frozen.name
    forged.parts = outputs.write_parts(job.project, frozen, job.settings.format)
    forged.report = outputs.publish(job, prepared.teacher(dry=True).name, forged)
    return forged


def drawn(items: Iterable[Any], limit: int | None, seed: int) -> Iterator[Any]:
    """LIMIT of ITEMS in their order, drawn by SEED from all of them; all without a limit."""
    if limit is None:
        yield from items
        return
    chosen: list[tuple[int, int, Any]] = []
    for number, item in enumerate(items):
        lot = hashlib.sha256(b"%d %d" % (seed, number)).digest()
        heapq.heappush(chosen, (-int.from_bytes(lot[:8], "big"), number, item))
        if len(chosen) > limit:
            heapq.heappop(chosen)
    yield from (item for _, _, item in sorted(chosen, key=lambda one: one[1]))


def _counted(items: Iterable[Any], made: Made) -> Iterator[Any]:
    for item in items:
        made.items += 1
        yield item
