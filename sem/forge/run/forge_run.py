"""A forge run: load, synthesize, sift, format; the rows replace those of the run before.

Files are written whole, forge.json last. A killed run is simply run again: replies come from the
cache, so nothing is asked twice, and the same bytes are written.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sem.core import files
from sem.core.errors import Busy, SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.ingest import importers
from sem.dataset.split import snapshot
from sem.dataset.store import store_writer
from sem.forge.kinds import plugins
from sem.forge.run import config as configs
from sem.forge.run import outputs
from sem.forge.run.forge_job import (
    JOURNAL,
    ORIGIN,
    ForgeJob,
    ForgeOptions,
    ForgeResult,
    PassResult,
    Progress,
    check_selection,
    default_task,
)
from sem.forge.teacher import cost_forecast
from sem.forge.teacher.cost_forecast import CostForecast, CostPlan
from sem.forge.teacher.teacher import ReplyJournal, Teacher, TeacherSpending, make_teacher


@dataclass(frozen=True)
class PreparedForge:
    """A job, what it would ask, and the teacher it would ask."""

    job: ForgeJob
    plan: CostPlan
    items: int
    at: datetime
    # What its pilot asked and paid.
    piloted: TeacherSpending = field(default_factory=TeacherSpending)

    def teacher(self, watch: Any = None, dry: bool = False) -> Teacher:
        """Return a teacher for this job; see `forge.teacher.teacher`."""
        journal = ReplyJournal(self.job.folder / JOURNAL)
        root = self.job.project.root
        return make_teacher(self.job.settings.teacher, root, self.at, journal, watch, dry)


def prepare_forge(project: Project, options: ForgeOptions, at: datetime) -> PreparedForge:
    """Return the job of `project` and its plan; nothing is sent, and no key is needed."""
    loaded = configs.load_forge_config(project)
    forge = plugins.load_forge_class(
        loaded.settings.forge_class, project.root, options.allow_plugins
    )
    others = tuple(outputs.reserved_questions(project, ORIGIN))
    job = ForgeJob(project, loaded.settings, forge, options, others, loaded.notes)
    plan = CostPlan(loaded.settings.teacher.pilot, loaded.settings.seed)
    prepared = PreparedForge(job, plan, 0, at)

    def watch(teacher_client: Teacher, request: Any, is_known: bool) -> bool:
        plan.note(teacher_client, request, is_known)
        return not is_known

    outcome = job.pass_over(prepared.teacher(watch, dry=True))
    check_selection(project, outcome.count.sources, ORIGIN)
    return PreparedForge(job, plan, outcome.count.items, at)


def run_pilot(prepared: PreparedForge) -> CostForecast | None:
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
        outputs.append_spending(prepared.job.folder, teacher_client.spending, prepared.at)
    return cost_forecast.forecast_cost(
        plan, teacher_client.spending, teacher_client.client.settings.workers
    )


def run_forge(prepared: PreparedForge, progress: Progress | None = None) -> ForgeResult:
    """Ask, sift and write the pairs of `prepared`; raise SemError when none of them is left."""
    job, teacher_client = prepared.job, prepared.teacher()
    with _alone(job):
        files.remove_temporary_files(job.folder, (".tmp-*",))
        try:
            outcome = job.pass_over(teacher_client, progress)
        finally:
            outputs.append_spending(job.folder, teacher_client.spending, prepared.at)
        forged = ForgeResult(outcome, teacher_client.spending)
        forged.pairs_sha256 = outputs.write_pairs(job.folder, outcome)
        if not outcome.kept:
            forged.report = outputs.publish_forge(job, teacher_client.name, forged)
            raise SemError(
                f"none of {len(outcome.verdicts):,} pairs is left",
                f"the reasons are in {forged.report}; the rows of the previous run are kept",
            )
        _store(job, outcome, forged)
    return forged


def _store(job: ForgeJob, outcome: PassResult, forged: ForgeResult) -> None:
    """Bring the rows of `outcome` into the store in place of those of the run before."""
    path = job.folder / "rows.jsonl"
    forged.formatted = files.write_rows(path, _rows(job, outcome))
    if not forged.formatted:
        raise SemError(
            f"{job.forge.__name__}.format made no rows from {len(outcome.kept):,} pairs",
            "yield a row for each; the rows of the previous run are kept",
        )
    result = importers.ImportResult()
    options = importers.ImportOptions(task=default_task(job))
    with (
        files.open_atomic_file(job.folder / "rejects.jsonl") as rejects,
        importers.prepare_source_rows(job.project, path, options, result, rejects) as ready,
    ):
        forged.rows = dict(
            vars(store_writer.replace_origin_rows(job.project.store, ready, ORIGIN))
        )
    stored = sum(forged.rows.values()) - forged.rows["removed"]
    result.rejects["same_id"] = forged.formatted - sum(result.rejects.values()) - stored
    forged.refused = {name: count for name, count in sorted(result.rejects.items()) if count}


def _rows(job: ForgeJob, outcome: PassResult) -> Iterator[dict[str, Any]]:
    """Yield rows of the kept pairs, marked as the forge's, whatever a forge of one's own wrote
    there.
    """
    with plugins.blame_plugin(job.forge):
        maker = job.forge(outcome.config)
        for number, row in enumerate(maker.format([verdict.pair for verdict in outcome.kept]), 1):
            if not isinstance(row, Mapping):
                raise SemError(
                    f"{job.forge.__name__}.format: row {number} is not a mapping: {row!r:.80}",
                    "yield rows as sem.forge.base.pair_row makes them",
                )
            yield {**row, "meta": {**(row.get("meta") or {}), "reference_source": ORIGIN}}


def finish_forge(
    prepared: PreparedForge, forged: ForgeResult, how: clean.CleaningOptions, progress: Any = None
) -> ForgeResult:
    """Clean and cut what was forged; train.jsonl and test.jsonl, forge.json and the report.

    The report is written also where cleaning or cutting stops with a SemError.
    """
    job = prepared.job
    with _alone(job):
        if files.sha256_file(job.folder / outputs.PAIRS) != forged.pairs_sha256:
            raise Busy(
                f"another run replaced the pairs in {job.folder}",
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
def _alone(job: ForgeJob) -> Iterator[None]:
    with files.lock_file(job.folder / ".forge.lock", str(job.folder)):
        yield
