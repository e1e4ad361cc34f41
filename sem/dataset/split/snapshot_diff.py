"""Two snapshots compared: rows added, removed, moved and changed; slots changed; tokens.

Parts are sorted by id, so both versions are read side by side, a row at a time; memory grows with
the number of slots, not of rows.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.split import snapshot, splits
from sem.dataset.split.snapshot import Snapshot

FORMAT = "dataset_diff.v1"
EXAMPLES = 5  # of each changed slot
# Ids of each kind that are listed.
NAMED = 20
# Characters of a value in an example.
SHOWN = 120
# The slot of a reference that is not an object.
WHOLE = "answer"
KINDS = ("same", "added", "removed", "moved", "changed")
Count = Callable[[str], int]
Row = dict[str, Any]


@dataclass
class SlotChanges:
    """What happened to one slot in rows that both versions have."""

    changed: int = 0
    added: int = 0
    removed: int = 0
    examples: list[Row] = field(default_factory=list)


@dataclass
class Task:
    """Counts of one task; `fields` says what else changed in rows that changed."""

    rows: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    slots: dict[str, SlotChanges] = field(default_factory=dict)
    input_delta: int = 0
    output_delta: int = 0


@dataclass
class Diff:
    """The difference of two snapshots, whole."""

    before: Snapshot
    after: Snapshot
    unit: str  # tokens or characters
    tasks: dict[str, Task] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    # Over every row that is not the same.
    digest: Any = field(default_factory=hashlib.sha256)

    def as_json(self) -> Row:
        """Return the difference as its report holds it."""
        return {
            "format": FORMAT,
            "before": {"version": self.before.name, "sha256": self.before.sha256},
            "after": {"version": self.after.name, "sha256": self.after.sha256},
            "unit": self.unit,
            "rows": {kind: sum(t.rows[kind] for t in self.tasks.values()) for kind in KINDS},
            "tasks": {name: _task_json(task) for name, task in sorted(self.tasks.items())},
            "first_ids": {kind: self.ids.get(kind, []) for kind in KINDS if kind != "same"},
            "rows_sha256": self.digest.hexdigest(),
        }

    @property
    def sha256(self) -> str:
        """Return what an acknowledgement names: both snapshots and every row that differs."""
        document = self.as_json()
        return files.sha256_json([document[k] for k in ("before", "after", "rows", "rows_sha256")])


def _task_json(task: Task) -> Row:
    return {
        "rows": {kind: task.rows[kind] for kind in KINDS},
        "fields": dict(sorted(task.fields.items())),
        "moves": dict(sorted(task.moves.items())),
        "slots": {name: vars(slot) for name, slot in sorted(task.slots.items())},
        "input_delta": task.input_delta,
        "output_delta": task.output_delta,
    }


def compare_snapshots(
    project: Project, before: str | int, after: str | int, count: Count | None = None
) -> Diff:
    """Return the Diff of snapshots `before` and `after`.

    `count` tokens, else characters are counted.
    """
    diff = Diff(
        snapshot.load_snapshot(project, before),
        snapshot.load_snapshot(project, after),
        "tokens" if count else "characters",
    )
    for old, new in join_rows(snapshot_rows(diff.before), snapshot_rows(diff.after)):
        _compare(diff, old, new, count or len)
    return diff


def snapshot_rows(frozen: Snapshot) -> Iterator[tuple[str, str, Row]]:
    """(id, part, row) of every row of `frozen`, in order of id."""
    return heapq.merge(*(_part(frozen, part) for part in splits.PARTS), key=itemgetter(0))


def _part(frozen: Snapshot, part: str) -> Iterator[tuple[str, str, Row]]:
    last = ""
    for row in files.read_rows(frozen.path(part)):
        if row["id"] < last:
            raise SemError(
                f"{frozen.path(part)}: {row['id']!r} comes after {last!r}",
                "parts are sorted by id: restore the file, or cut a new snapshot",
            )
        last = row["id"]
        yield last, part, row


Side = tuple[str, str, Row] | None


def join_rows(
    before: Iterator[tuple[str, str, Row]], after: Iterator[tuple[str, str, Row]]
) -> Iterator[tuple[Side, Side]]:
    """Yield rows of `before` and `after`, both sorted by id, in pairs.

    None where a side has none.
    """
    old, new = next(before, None), next(after, None)
    while old or new:
        if new is None or (old is not None and old[0] < new[0]):
            yield old, None
            old = next(before, None)
        elif old is None or new[0] < old[0]:
            yield None, new
            new = next(after, None)
        else:
            yield old, new
            old, new = next(before, None), next(after, None)


def _compare(diff: Diff, old: Side, new: Side, count: Count) -> None:
    side = new or old
    assert side is not None
    name, _, row = side
    task = diff.tasks.setdefault(row["task"], Task())
    kind = _kind(old, new)
    task.rows[kind] += 1
    if kind == "same":
        return
    if len(diff.ids.setdefault(kind, [])) < NAMED:
        diff.ids[kind].append(name)
    diff.digest.update((jsonio.canonical_json([old, new]) + "\n").encode("utf-8"))
    task.input_delta += _size(new, "input_text", count) - _size(old, "input_text", count)
    task.output_delta += _size(new, "output_json", count) - _size(old, "output_json", count)
    if old and new and old[1] != new[1]:
        task.moves[f"{old[1]} to {new[1]}"] += 1
    if old and new and old[2] != new[2]:
        task.fields.update(_fields(old[2], new[2]))
        _slots(task, name, old[2].get("output_json"), new[2].get("output_json"))


def _kind(old: Side, new: Side) -> str:
    """Return a row that moved and changed counts as changed; its move is counted under `moves`."""
    if old is None or new is None:
        return "added" if old is None else "removed"
    if old[2] != new[2]:
        return "changed"
    return "same" if old[1] == new[1] else "moved"


def _size(side: Side, name: str, count: Count) -> int:
    if side is None:
        return 0
    value = side[2][name]
    return count(value if isinstance(value, str) else jsonio.canonical_json(value))


def _fields(old: Row, new: Row) -> Iterator[str]:
    return (name for name in sorted({*old, *new}) if old.get(name) != new.get(name))


def _slots(task: Task, name: str, old: Any, new: Any) -> None:
    old, new = _as_slots(old), _as_slots(new)
    for slot in sorted({*old, *new}):
        if (
            slot in old
            and slot in new
            and jsonio.canonical_json(old[slot]) == jsonio.canonical_json(new[slot])
        ):
            continue
        changes = task.slots.setdefault(slot, SlotChanges())
        kind = "changed" if slot in old and slot in new else "added" if slot in new else "removed"
        setattr(changes, kind, getattr(changes, kind) + 1)
        if len(changes.examples) < EXAMPLES:
            sides = {"before": _shown(old.get(slot)), "after": _shown(new.get(slot))}
            changes.examples.append({"id": name, **sides})


def _as_slots(reference: Any) -> Row:
    return reference if isinstance(reference, dict) else {WHOLE: reference}


def _shown(value: Any) -> str:
    text = jsonio.canonical_json(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
