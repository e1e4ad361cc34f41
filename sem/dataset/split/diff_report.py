"""The difference of two snapshots as Markdown and as tables."""

from pathlib import Path

from sem.core import files, jsonio
from sem.core.console import titled_table
from sem.core.project import Project
from sem.dataset.clean.validation import sanitise_table_cell
from sem.dataset.split.snapshot_diff import KINDS, Diff

SLOT_COLUMNS = ("slot", "changed", "added", "removed")


def write_diff_report(project: Project, diff: Diff) -> Path:
    """Write `diff` as JSON and Markdown beside each other; the path of the Markdown."""
    stem = f"dataset_diff_{diff.before.name}_{diff.after.name}"
    files.write_file(project.reports / f"{stem}.json", jsonio.pretty_json(diff.as_json()))
    return files.write_file(project.reports / f"{stem}.md", diff_markdown(diff))


def row_columns(diff: Diff) -> tuple[str, ...]:
    """Return the columns of `row_table`."""
    return ("task", *KINDS, f"input {diff.unit}", f"output {diff.unit}")


def row_table(diff: Diff) -> list[tuple[object, ...]]:
    """Return a row a task: rows by what happened to them, and how many tokens more or less."""
    return [
        (
            name,
            *(task.rows[kind] for kind in KINDS),
            f"{task.input_delta:+,}",
            f"{task.output_delta:+,}",
        )
        for name, task in sorted(diff.tasks.items())
    ]


def slot_table(diff: Diff) -> list[tuple[object, ...]]:
    """Return a row a slot that changed in rows of both versions."""
    return [
        (f"{name}.{slot}", changes.changed, changes.added, changes.removed)
        for name, task in sorted(diff.tasks.items())
        for slot, changes in sorted(task.slots.items())
    ]


def field_table(diff: Diff) -> list[tuple[object, ...]]:
    """Return what changed besides slots, and between which parts rows moved."""
    counts: list[tuple[object, ...]] = []
    for name, task in sorted(diff.tasks.items()):
        counts += [(name, f"{field} changed", n) for field, n in sorted(task.fields.items())]
        counts += [(name, f"moved from {move}", n) for move, n in sorted(task.moves.items())]
    return counts


def diff_markdown(diff: Diff) -> str:
    """Return `diff` as a report."""
    parts = [
        f"# {diff.before.name} to {diff.after.name}\n",
        f"{diff.before.name} is `{diff.before.sha256[:16]}`, {diff.after.name} is "
        f"`{diff.after.sha256[:16]}`, their difference is `{diff.sha256[:16]}`.\n",
        titled_table("Rows", row_columns(diff), row_table(diff)),
        titled_table("Fields and parts", ("task", "what", "rows"), field_table(diff)),
        titled_table("Slots, in rows of both", SLOT_COLUMNS, slot_table(diff)),
        titled_table("Examples", ("slot", "id", "before", "after"), _examples(diff)),
        titled_table("First ids", ("what", "ids"), _ids(diff)),
    ]
    return "\n".join(parts)


def _examples(diff: Diff) -> list[tuple[object, ...]]:
    return [
        (
            f"{name}.{slot}",
            sanitise_table_cell(example["id"]),
            sanitise_table_cell(example["before"]),
            sanitise_table_cell(example["after"]),
        )
        for name, task in sorted(diff.tasks.items())
        for slot, changes in sorted(task.slots.items())
        for example in changes.examples
    ]


def _ids(diff: Diff) -> list[tuple[object, ...]]:
    return [
        (kind, ", ".join(map(sanitise_table_cell, ids))) for kind, ids in sorted(diff.ids.items())
    ]
