"""The strong model answers anew, and only the touched slots of its answer are taken."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sem.core import jsonio, schema
from sem.core.project import Project
from sem.core.taskspec import TaskSpec
from sem.dataset.store import spec_archive
from sem.dataset.store.examples_table import RawRow
from sem.dataset.store.store_writer import RowChange
from sem.eval.judge import judge_config
from sem.lm.api.calls import CallOutcome, ChatRequest
from sem.lm.api.client import Client
from sem.ops.backfill.touched import NOTE
from sem.ops.backfill.work_queue import QueueItem
from sem.ops.config import Backfill


class UnusableAnswerError(Exception):
    """The model's answer cannot be used; it says why."""


def relabel_client(project: Project, settings: Backfill, at: datetime) -> Client | None:
    """Return the client of backfill.yaml's models, else of the judge's.

    None when neither names one.
    """
    calls = settings.calls
    if not calls.models:
        calls = judge_config.load_judge_config(project).calls
    if not calls.models:
        return None
    return Client(calls, project.root / calls.ledger, "backfill", at)


def request_relabels(
    model: Client,
    spec: TaskSpec,
    rows: Sequence[tuple[QueueItem, RawRow]],
    settings: Backfill,
    inputs: dict[str, str],
) -> Iterator[tuple[QueueItem, RawRow, CallOutcome]]:
    """Yield the model's outcome for each of `rows`.

    `inputs` holds the cleaned input by id; without one the stored input is used.
    """
    requests = [
        ChatRequest(
            messages=(
                ("system", spec.system_prompt),
                ("user", spec.prompt(inputs.get(str(row.id), row.input_text or ""))),
            ),
            schema=spec.io_schema,
            max_tokens=settings.max_tokens,
            prompt_version=spec.fingerprint(),
        )
        for _, row in rows
    ]
    for number, outcome in model.ask_all(requests):
        yield *rows[number], outcome


def relabelled_change(
    item: QueueItem, row: RawRow, outcome: CallOutcome, spec: TaskSpec, at: datetime
) -> RowChange:
    """Return the Change of `row` by the touched slots of `outcome`.

    Wrong when they cannot be used.
    """
    if not outcome.is_usable:
        raise UnusableAnswerError(f"{outcome.fault}: {outcome.detail}")
    try:
        old = jsonio.parse_json(row.reference or "null")
        meta = jsonio.parse_json(row.metadata) if row.metadata else {}
    except ValueError:
        old, meta = None, {}
    new = _taken(old, outcome.value, item.work.slots)
    wrong = schema.schema_problems(new, spec.io_schema, limit=1)
    if wrong:
        raise UnusableAnswerError(f"breaks io_schema: {wrong[0]}")
    note = {
        "spec": spec.fingerprint(),
        "slots": list(item.work.slots),
        "model": outcome.model,
        "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
    }
    meta = meta if isinstance(meta, dict) else {}
    new_meta = {**meta, NOTE: [*meta.get(NOTE, []), note]}
    return RowChange(str(row.id), jsonio.canonical_json(new), jsonio.canonical_json(new_meta))


def _taken(old: Any, reply: Any, slots: Sequence[str]) -> Any:
    """Return `old` with `slots` as `reply` has them.

    All of `reply` where the output is not an object.
    """
    if spec_archive.WHOLE in slots or not isinstance(old, dict) or not isinstance(reply, dict):
        return reply
    return {**old, **{slot: reply[slot] for slot in slots if slot in reply}}
