"""The difference of two snapshots as Markdown and as tables."""

from pathlib import Path

from sem.core import files, jsonio
from sem.core.markdown import titled_table
from sem.core.project import Project
from sem.dataset.clean.validation import escape
from sem.dataset.split.snapshot_diff import KINDS, Diff

SLOT_COLUMNS = ("slot", "changed", "added", "removed")


def write_diff_report(project: Project, found: Diff) -> Path:
    """Write `found` as JSON and Markdown beside each other; the path of the Markdown."""
    stem = f"dataset_diff_{found.before.name}_{found.after.name}"
    files.write_file(project.reports / f"{stem}.json", jsonio.pretty(found.as_json()))
    return files.write_file(project.reports / f"{stem}.md", diff_markdown(found))


def row_columns(found: Diff) -> tuple[str, ...]:
    """Return the columns of `row_table`."""
    return ("task", *KINDS, f"input {found.unit}", f"output {found.unit}")


def row_table(found: Diff) -> list[tuple[object, ...]]:
    """Return a row a task: rows by what happened to them, and how many tokens more or less."""
    return [
        (
            name,
            *(task.rows[kind] for kind in KINDS),
            f"{task.input_delta:+,}",
            f"{task.output_delta:+,}",
        )
        for name, task in sorted(found.tasks.items())
    ]


def slot_table(found: Diff) -> list[tuple[object, ...]]:
    """Return a row a slot that changed in rows of both versions."""
    return [
        (f"{name}.{slot}", one.changed, one.added, one.removed)
        for name, task in sorted(found.tasks.items())
        for slot, one in sorted(task.slots.items())
    ]


def field_table(found: Diff) -> list[tuple[object, ...]]:
    """Return what changed besides slots, and between which parts rows moved."""
    counts: list[tuple[object, ...]] = []
    for name, task in sorted(found.tasks.items()):
        counts += [(name, f"{field} changed", n) for field, n in sorted(task.fields.items())]
        counts += [(name, f"moved from {move}", n) for move, n in sorted(task.moves.items())]
    return counts


def diff_markdown(found: Diff) -> str:
    """Return `found` as a report."""
    parts = [
        f"# {found.before.name} to {found.after.name}\n",
        f"{found.before.name} is `{found.before.sha256[:16]}`, {found.after.name} is "
        f"`{found.after.sha256[:16]}`, their difference is `{found.sha256[:16]}`.\n",
        titled_table("Rows", row_columns(found), row_table(found)),
        titled_table("Fields and parts", ("task", "what", "rows"), field_table(found)),
        titled_table("Slots, in rows of both", SLOT_COLUMNS, slot_table(found)),
        titled_table("Examples", ("slot", "id", "before", "after"), _examples(found)),
        titled_table("First ids", ("what", "ids"), _ids(found)),
    ]
    return "\n".join(parts)


def _examples(found: Diff) -> list[tuple[object, ...]]:
    return [
        (f"{name}.{slot}", escape(one["id"]), escape(one["before"]), escape(one["after"]))
        for name, task in sorted(found.tasks.items())
        for slot, changes in sorted(task.slots.items())
        for one in changes.examples
    ]


def _ids(found: Diff) -> list[tuple[object, ...]]:
    return [(kind, ", ".join(map(escape, ids))) for kind, ids in sorted(found.ids.items())]
