"""References brought from one version of a task's schema to the next, by declared steps.

`configs/SEM/migrations/*.yaml` each say for one task how references of version `to` - 1 become
those of version `to`. A row says its version in `metadata.schema_version`; without it, it is 1.

    task: product
    to: 2
    steps:
      - rename: {slot: cost, to: price}
      - drop: {slot: vat}
      - add: {slot: currency, default: null}
      - map: {slot: stock, values: {yes: InStock, no: OutOfStock}}
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, schema, settings
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.project import Project
from sem.core.taskspec import TaskSpec
from sem.dataset.store import store, store_writer
from sem.dataset.store.examples_table import RawRow
from sem.dataset.store.store_writer import RowChange

KEY = "schema_version"
REJECTS = "migrate_rejects.jsonl"


@dataclass(frozen=True)
class Rename:
    """The slot `slot` is called `to` from now on."""

    slot: str
    to: str


@dataclass(frozen=True)
class Drop:
    """There is no slot `slot` any more."""

    slot: str


@dataclass(frozen=True)
class Add:
    """There is a slot `slot`; rows without it get `default`."""

    slot: str
    default: Any = None


@dataclass(frozen=True)
class Map:
    """The values of `slot` are spelled otherwise."""

    slot: str
    values: dict[str, Any]


@dataclass(frozen=True)
class MigrationStep:
    """Exactly one of the four."""

    rename: Rename | None = None
    drop: Drop | None = None
    add: Add | None = None
    map: Map | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in vars(self).values()) != 1:
            raise SemError(
                "a step must be exactly one of rename, drop, add and map",
                "write one: - rename: {…}",
            )

    @property
    def kind(self) -> str:
        return next(name for name, value in vars(self).items() if value is not None)

    @property
    def what(self) -> Any:
        return getattr(self, self.kind)

    @property
    def slots(self) -> frozenset[str]:
        """Return the slots it touches, as they are called afterwards and before."""
        return frozenset({self.what.slot, getattr(self.what, "to", self.what.slot)})


@dataclass(frozen=True)
class Migration:
    """One file of steps."""

    task: str
    to: int
    steps: tuple[MigrationStep, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if self.to < 2:
            raise SemError(f"to: {self.to}", "rows without schema_version are 1: start with 2")


class MigrationStepError(Exception):
    """A step does not apply to a row; it says why."""


@dataclass
class MigrationResult:
    """What a migration did, or would do."""

    steps: Counter[str] = field(default_factory=Counter)
    changes: list[RowChange] = field(default_factory=list)
    stuck: list[dict[str, Any]] = field(default_factory=list)
    # Rows of a task with migrations that are at its version.
    already: int = 0
    store: list[str] = field(default_factory=list)


def load_migrations(project: Project) -> dict[str, list[Migration]]:
    """Return the migrations of `project` by task, in order.

    SemError on a gap or an unknown task.
    """
    migrations: dict[str, list[Migration]] = {}
    for path in sorted((project.configs / "migrations").glob("*.y*ml")):
        value = settings.read_yaml(path)
        if not isinstance(value, dict) or "name" in value:
            raise SemError(f"{path}: no migration", "write task, to and steps")
        migration = settings.build_settings(Migration, {**value, "name": path.name}, str(path))
        if migration.task not in project.tasks:
            raise SemError(
                f"{path}: task {migration.task!r} has no TaskSpec",
                suggest_nearest_name(migration.task, project.tasks),
            )
        migrations.setdefault(migration.task, []).append(migration)
    for task, listed in migrations.items():
        listed.sort(key=lambda migration: migration.to)
        versions = list(range(2, 2 + len(listed)))
        targets = [migration.to for migration in listed]
        if targets != versions:
            raise SemError(
                f"migrations of {task} lead to {targets}, not to {versions}",
                "write one file for each version, without gaps or repeats",
            )
    return migrations


def schema_version(meta: dict[str, Any]) -> int:
    """Return the schema version that metadata `meta` names, 1 when it names none."""
    version = meta.get(KEY, 1)
    return int(version) if str(version).isdigit() else 1


def apply_migrations(
    reference: Any, meta: dict[str, Any], listed: list[Migration]
) -> tuple[Any, list[MigrationStep]]:
    """Return `reference` at the newest version of `listed`, and the steps it took.

    Stuck when one fails.
    """
    steps: list[MigrationStep] = []
    for migration in listed:
        if migration.to > schema_version(meta):
            for step in migration.steps:
                if not isinstance(reference, dict):
                    raise MigrationStepError(f"{migration.name}: the reference is no object")
                try:
                    reference = ACTS[step.kind](dict(reference), step.what)
                except MigrationStepError as error:
                    raise MigrationStepError(
                        f"{migration.name}: {step.kind} {step.what.slot}: {error}"
                    ) from error
                steps.append(step)
    return reference, steps


def _rename(reference: dict[str, Any], step: Rename) -> dict[str, Any]:
    if step.slot not in reference:
        return reference
    if step.to in reference:
        raise MigrationStepError(f"{step.to} is there already")
    reference[step.to] = reference.pop(step.slot)
    return reference


def _drop(reference: dict[str, Any], step: Drop) -> dict[str, Any]:
    reference.pop(step.slot, None)
    return reference


def _add(reference: dict[str, Any], step: Add) -> dict[str, Any]:
    reference.setdefault(step.slot, step.default)
    return reference


def _map(reference: dict[str, Any], step: Map) -> dict[str, Any]:
    value = reference.get(step.slot)
    if step.slot not in reference or value is None:
        return reference
    if isinstance(value, list):
        reference[step.slot] = [_mapped(item, step) for item in value]
    else:
        reference[step.slot] = _mapped(value, step)
    return reference


def _mapped(value: Any, step: Map) -> Any:
    key = value if isinstance(value, str) else jsonio.canonical_json(value)
    if key in step.values:
        return step.values[key]
    if any(
        jsonio.canonical_json(value) == jsonio.canonical_json(new) for new in step.values.values()
    ):
        return value
    raise MigrationStepError(f"{jsonio.canonical_json(value)[:60]} is none of its values")


ACTS: dict[str, Callable[[dict[str, Any], Any], dict[str, Any]]] = {
    "rename": _rename,
    "drop": _drop,
    "add": _add,
    "map": _map,
}


def plan_migration(project: Project) -> MigrationResult:
    """Return what a migration of `project`'s store would do; nothing is written."""
    listed, outcome = load_migrations(project), MigrationResult()
    if listed:
        with store.open_store(project.store) as opened:
            for row in opened.rows():
                if row.task in listed:
                    _one(row, listed[row.task], project.tasks[row.task], outcome)
    return outcome


def _one(row: RawRow, listed: list[Migration], spec: TaskSpec, outcome: MigrationResult) -> None:
    try:
        change, steps = change_of(row, listed, spec)
    except MigrationStepError as error:
        outcome.stuck.append({"id": row.id, "task": row.task, "reason": str(error)})
        return
    if change is None:
        outcome.already += 1
        return
    outcome.changes.append(change)
    outcome.steps.update(f"{row.task}: {step.kind} {step.what.slot}" for step in steps)


def change_of(
    row: RawRow, listed: list[Migration], spec: TaskSpec
) -> tuple[RowChange | None, list[MigrationStep]]:
    """Return the Change that brings `row` to the version `listed` ends at.

    None when it is there.
    """
    try:
        meta = jsonio.parse_json(row.metadata) if row.metadata else {}
        reference = jsonio.parse_json(row.reference or "null")
    except ValueError as error:
        raise MigrationStepError(f"not JSON: {error}"[:200]) from error
    if not isinstance(meta, dict):
        raise MigrationStepError("the metadata is no object")
    if schema_version(meta) >= listed[-1].to:
        return None, []
    new, steps = apply_migrations(reference, meta, listed)
    wrong = schema.schema_problems(new, spec.io_schema, limit=1)
    if wrong:
        raise MigrationStepError(f"breaks io_schema afterwards: {wrong[0]}"[:200])
    metadata = jsonio.canonical_json({**meta, KEY: listed[-1].to})
    return RowChange(str(row.id), jsonio.canonical_json(new), metadata), steps


def run_migration(project: Project) -> tuple[MigrationResult, Path]:
    """Migrate `project`'s store and its references; the rows left as they are go to a report."""
    steps = store_writer.upgrade_store(project.store)
    outcome = plan_migration(project)
    outcome.store = steps
    store_writer.update_store_rows(project.store, outcome.changes)
    path = project.reports / REJECTS
    files.write_rows(path, outcome.stuck)
    return outcome, path


def migration_table(outcome: MigrationResult) -> Iterator[tuple[str, object]]:
    """Yield `outcome` as table rows."""
    yield from (("store", step) for step in outcome.store)
    yield "rows changed", len(outcome.changes)
    yield "rows at their version already", outcome.already
    yield from sorted(outcome.steps.items())
    yield "rows left as they are", len(outcome.stuck)
    reasons = Counter(row["reason"] for row in outcome.stuck)
    yield from ((f"left: {reason}", count) for reason, count in reasons.most_common(12))
