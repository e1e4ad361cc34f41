"""What cleaning counts while it runs, for the report."""

from dataclasses import dataclass, field
from typing import Any

from sem.core import files, shape

FIRST = 5


@dataclass
class CleaningTally:
    """Counts of one run; `survival` holds values, found before, kept, found after, by slot."""

    read: int = 0
    kept: int = 0
    tasks: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    first_ids: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    survival: dict[str, list[int]] = field(default_factory=dict)
    # Kind -> action -> spans.
    pii: dict[str, dict[str, int]] = field(default_factory=dict)
    # How near-duplicates were found.
    near: dict[str, int] = field(default_factory=dict)

    def page(self, outcome: Any) -> None:
        """Count what became of a row; duplicates are among them, they are seen later."""
        self.read += 1
        if outcome.reason is not None:
            return
        task = self.tasks.setdefault(outcome.task, {"kept": 0, "pages": 0})
        task["pages"] += 1
        for name, number in outcome.report.items():
            task[name] = task.get(name, 0) + number
        for note in outcome.notes:
            self.notes[note] = self.notes.get(note, 0) + 1
        for slot, counts in outcome.survival.items():
            name = f"{outcome.task}.{slot}"
            before = self.survival.setdefault(name, [0, 0, 0, 0])
            self.survival[name] = [a + b for a, b in zip(before, counts, strict=True)]
        for kind, actions in outcome.pii.items():
            counted = self.pii.setdefault(kind, {})
            for action, number in actions.items():
                counted[action] = counted.get(action, 0) + number

    def keep(self, task: str) -> None:
        """Count a row of `task` that is in the result."""
        self.kept += 1
        self.tasks[task]["kept"] += 1

    def refuse(self, reason: str, name: str) -> None:
        """Count the row called `name` as rejected for `reason`."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        names = self.first_ids.setdefault(reason, [])
        if len(names) < FIRST:
            names.append(name)


def hash_to_fraction(name: str) -> float:
    """Return a number from 0 to 1 that `name` alone decides."""
    return int(files.sha256_text(name)[:8], 16) / (1 << 32)


def closed_slots(io_schema: dict[str, Any]) -> set[str]:
    """Slots whose value is chosen from a list, so that no page need spell it."""
    fields = {**shape.schema_properties(io_schema, io_schema), "answer": io_schema}
    return {name for name, kind in fields.items() if is_listed(kind, io_schema)}


def is_listed(kind: Any, root: Any) -> bool:
    """Return True if values of the schema `kind`, or every item of its lists, are labels."""
    held = shape.resolve_shape(kind, root)
    items = [shape.resolve_shape(inner, root) for inner in shape.possible_item_schemas(held)]
    return shape.is_closed(held) or (bool(items) and all(map(shape.is_closed, items)))
