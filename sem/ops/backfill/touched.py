"""Which rows and slots a change of schema, prompt or cleaner touches, and nothing else.

Compared are what rows were made with and what is current: the TaskSpecs and the cleaner of the
snapshot that `--since` names, the schema version in a row's metadata, the clean set's cleaner.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.config import Dataset
from sem.dataset.html import markup
from sem.dataset.split import snapshot
from sem.dataset.store import migrate, spec_archive, store
from sem.dataset.store.examples_table import RawRow
from sem.dataset.store.spec_archive import TouchedSlots
from sem.ops.backfill.work_queue import RowWork

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
MIGRATE, RELABEL, RECLEAN = "migrate", "relabel", "reclean"
# In the order they are done.
KINDS = (MIGRATE, RELABEL, RECLEAN)
# In a row's metadata: what was relabelled, with what.
NOTE = "backfill"


@dataclass
class BackfillChange:
    """What is not as it was, by task, and why rows are left out."""

    since: str
    tasks: dict[str, TouchedSlots] = field(default_factory=dict)
    migrations: dict[str, list[migrate.Migration]] = field(default_factory=dict)
    # The current one, when the clean set was made by another.
    cleaner: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)


def resolve_since_snapshot(project: Project, text: str) -> tuple[str, dict[str, Any]]:
    """Return the snapshot `text` means, a version or the newest one of a day, and its ledger
    entry.
    """
    entries = snapshot.read_ledger(project)
    if DAY.fullmatch(text):
        older = [n for n, e in entries.items() if str(e["frozen_at"])[:10] <= text]
        if not older:
            raise SemError(f"no snapshot was frozen on or before {text}", "name a later day")
        name = max(older, key=lambda n: int(n.removeprefix("v")))
        return name, entries[name]
    name = text if text.startswith("v") else f"v{text}"
    if name not in entries:
        raise SemError(
            f"--since {text!r} is neither a snapshot nor a day",
            f"write a version, {', '.join(entries) or 'once there is one'}, or 2026-01-31",
        )
    return name, entries[name]


def change_since(project: Project, text: str) -> BackfillChange:
    """Return what differs between the snapshot that `text` means and what is current."""
    name, entry = resolve_since_snapshot(project, text)
    change = BackfillChange(name, migrations=migrate.load_migrations(project))
    for task, spec in sorted(project.tasks.items()):
        was = entry["tasks"].get(task)
        if was is not None and was != spec.fingerprint():
            touched_slots = spec_archive.find_touched_slots(
                spec_archive.find_archived_spec(project, task, was), spec
            )
            if touched_slots.slots:
                change.tasks[task] = touched_slots
    facts = project.processed / clean.FACTS
    is_old = entry["cleaner"] != markup.FINGERPRINT
    cleaned = state.read_if_there(facts, state.CleanFacts) if is_old else None
    if cleaned and cleaned["cleaner"] != markup.FINGERPRINT:
        change.cleaner = markup.FINGERPRINT
    return change


def plan_backfill_work(project: Project, change: BackfillChange) -> Iterator[RowWork]:
    """Yield the work that `change` asks for, row by row; rows left out are counted in it."""
    reclean = target_of_cleaning(project)
    with store.open_store(project.store) as opened:
        for row in opened.rows():
            if row.task in project.tasks and row.id:
                yield from _row(project, row, change, reclean)


def _row(project: Project, row: RawRow, change: BackfillChange, reclean: str) -> Iterator[RowWork]:
    name, task, meta = str(row.id), str(row.task), _meta(row)
    listed = change.migrations.get(task, [])
    pending = [migration for migration in listed if migration.to > migrate.schema_version(meta)]
    moved = {slot for migration in pending for step in migration.steps for slot in step.slots}
    if pending:
        yield RowWork(MIGRATE, name, task, tuple(sorted(moved)), f"version {listed[-1].to}")
    fingerprint = project.tasks[task].fingerprint()
    # A migration says what becomes of its slots, also where it was done before.
    moved |= {slot for migration in listed for step in migration.steps for slot in step.slots}
    slots = tuple(s for s in change.tasks.get(task, TouchedSlots()).slots if s not in moved)
    if slots and meta.get("reference_source") == "human":
        change.left_out["a person wrote the reference"] += 1
    elif slots and any(note.get("spec") == fingerprint for note in meta.get(NOTE, [])):
        change.left_out["relabelled before"] += 1
    elif slots:
        yield RowWork(RELABEL, name, task, slots, fingerprint)
    if change.cleaner:
        yield RowWork(RECLEAN, name, task, (), reclean)


def _meta(row: RawRow) -> dict[str, Any]:
    try:
        value = jsonio.parse_json(row.metadata) if row.metadata else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def target_of_cleaning(project: Project) -> str:
    """Return what a cleaned row depends on besides itself: cleaner, settings and TaskSpecs."""
    settings = jsonio.parse_json(
        jsonio.canonical_json(asdict(project.settings("dataset", Dataset).clean))
    )
    tasks = {name: spec.fingerprint() for name, spec in sorted(project.tasks.items())}
    return files.sha256_json([markup.FINGERPRINT, settings, tasks])
