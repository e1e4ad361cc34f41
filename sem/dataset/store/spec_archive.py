"""TaskSpecs as they were: kept by fingerprint when a snapshot is cut, so that a later one can be
compared with what rows were made for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, shape, state
from sem.core.project import Project
from sem.core.taskspec import TaskSpec

PROMPT = ("system_prompt", "instruction_template")
# The slot of a task whose output is not an object.
WHOLE = "answer"


@dataclass(frozen=True)
class TouchedSlots:
    """What a change of a TaskSpec touches: slots of every row of its task, and why."""

    slots: tuple[str, ...] = ()
    # Prompt | schema | unknown: the older TaskSpec was not kept.
    why: str = ""


def spec_archive_folder(project: Project) -> Path:
    """Return where older TaskSpecs of `project` are kept."""
    return project.root / "data" / project.sem / "specs"


def archive_specs(project: Project) -> None:
    """Keep today's TaskSpecs of `project`; each once."""
    for spec in project.tasks.values():
        path = spec_archive_folder(project) / f"{spec.fingerprint()}.json"
        if not path.exists():
            files.write_file(path, jsonio.pretty_json(spec.as_json()))


def find_archived_spec(project: Project, task: str, fingerprint: str) -> Mapping[str, Any] | None:
    """Return the TaskSpec of `task` with `fingerprint` as JSON, from what was kept or from a
    run.
    """
    path = spec_archive_folder(project) / f"{fingerprint}.json"
    if path.exists():
        return state.read_state_file(path, state.KeptSpec)
    for plan in sorted(project.adapters.glob("*/run.json")):
        document = state.read_state_file(plan, state.RunPlan)
        if document.get("task_hashes", {}).get(task) == fingerprint:
            return document["tasks"][task]
    return None


def find_touched_slots(old: dict[str, Any] | None, new: TaskSpec) -> TouchedSlots:
    """Return the slots of `new` that `old`'s references cannot be right for any more.

    Another prompt touches all of them; another io_schema those whose own schema differs; rubric,
    split and example touch none. An `old` that is not known touches all.
    """
    slots = tuple(sorted(shape.schema_properties(new.io_schema, new.io_schema))) or (WHOLE,)
    now = new.as_json()
    if old is None:
        return TouchedSlots(slots, "unknown")
    if any(old.get(key) != now.get(key) for key in PROMPT):
        return TouchedSlots(slots, "prompt")
    before, after = (_slots(spec) for spec in (old, now))
    changed = tuple(sorted(slot for slot in after if before.get(slot) != after[slot]))
    return TouchedSlots(changed, "schema" if changed else "")


def _slots(spec: dict[str, Any]) -> dict[str, str]:
    """Return each slot's own schema and labels, as text that can be compared."""
    io_schema = spec["io_schema"]
    labels = spec.get("label_enums") or {}
    properties = shape.schema_properties(io_schema, io_schema) or {WHOLE: io_schema}
    return {
        slot: jsonio.canonical_json([shape.describe_shape(inner, io_schema), labels.get(slot)])
        for slot, inner in properties.items()
    }
