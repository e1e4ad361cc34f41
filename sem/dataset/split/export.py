"""A part of a snapshot as a file that others train on; `conversations.FORMS` are the forms."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.project import Project
from sem.dataset.ingest import conversations
from sem.dataset.split.snapshot import Snapshot


def check_export_form(form: str) -> str:
    """Return `form` when it is one that can be written; SemError otherwise."""
    if form not in conversations.FORMS:
        raise SemError(
            f"--format {form!r} is unknown", suggest_nearest_name(form, conversations.FORMS)
        )
    return form


def how_to_use(form: str, out: Path) -> str | None:
    """Return the lines of a trainer's own settings that read `out`.

    None where there is nothing to say.

    Axolotl's `chat_template` strategy (its docs/dataset-formats/conversation.qmd): each key is
    written out, also where it is the default, so that another version's default does no harm.
    """
    if form not in ("axolotl", "sharegpt"):
        return None
    field, role, content = {
        "axolotl": ("messages", "role", "content"),
        "sharegpt": ("conversations", "from", "value"),
    }[form]
    return f"""datasets:
  - path: {jsonio.canonical_json(str(out))}
    ds_type: json
    type: chat_template
    field_messages: {field}
    message_property_mappings: {{role: {role}, content: {content}}}
    roles_to_train: [assistant]
    train_on_eos: turn"""


def write_export(project: Project, snapshot: Snapshot, part: str, form: str, out: Path) -> int:
    """Write `part` of `snapshot` to `out` as JSON lines of `form`, all or nothing; how many rows.

    `fab dataset.import OUT` gives the same examples again.
    """
    if out.resolve().is_relative_to(project.processed.resolve()):
        raise SemError(f"{out}: this folder holds snapshots", "write the export somewhere else")
    check_export_form(form)

    def rows() -> Iterator[dict[str, Any]]:
        for example in snapshot.examples(part):
            yield conversations.as_conversation(example, project.tasks[example.task], form)

    return files.write_rows(out, rows())
