"""One record of somebody else's file to one row of the store, whatever its fields are called."""

import datetime
import decimal
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sem.core import jsonio
from sem.core.taskspec import TaskSpec
from sem.dataset.ingest import charset, conversations
from sem.dataset.ingest.readers import Row, Told
from sem.dataset.store import examples_table
from sem.dataset.store.examples_table import CAPTURE, RawRow

# Read besides the columns of a store; pages.parquet style sets call them so.
FIELDS = {**examples_table.FIELDS, "reference": (*examples_table.FIELDS["reference"], "reference")}
PAGE_FACTS = ("url", "language", "page_type", "site", "domain", "source", "reliability")
BESIDE = ("html", "negative_examples", *conversations.TURNS, "system", "instruction", "input")
KNOWN = {*CAPTURE, *PAGE_FACTS, *BESIDE, "output", "history"}.union(*FIELDS.values())
MOST_NOTES = 40
MOST_FIELDS = 10_000


def rows_of_records(
    records: Iterable[Row],
    reporter: Told,
    tasks: Mapping[str, TaskSpec],
    task: str | None,
    typed: bool = False,
) -> Iterator[tuple[str, RawRow]]:
    """Yield each of `records` as a row with its place.

    What cannot be one goes to `reporter` with a reason.

    `typed`: the records were JSON, so that a text under `output_json` is the value itself.
    """
    unread: dict[str, None] = {}
    for where, record in records:
        if not isinstance(record, dict):
            reporter.refuse(where, "not_an_object")
            continue
        if len(record) > MOST_FIELDS:
            reporter.refuse(where, "too_many_fields")
            continue
        unread |= dict.fromkeys(map(str, record.keys() - KNOWN))
        name = record.get("id") or record.get("example_id")
        try:
            yield where, from_record(conversations.unfold(record, tasks, task), typed)
        except conversations.Unusable as error:
            reporter.refuse(str(name or where)[:80], str(error))
        except (ValueError, TypeError) as error:
            reporter.refuse(str(name or where)[:80], f"not_json: {error}"[:200])
    for column in sorted(unread)[:MOST_NOTES]:
        reporter.note(f"not read: field {column[:80]!r}")


def from_record(record: dict[str, Any], typed: bool = False) -> RawRow:
    """Return the row in `record`; ValueError when a value is no JSON."""
    record = {name: plain_value(value) for name, value in record.items()}
    values = {
        name: next((record[s] for s in spellings if record.get(s) is not None), None)
        for name, spellings in FIELDS.items()
    }
    if record.get("html") is not None:
        values["input_text"] = _page(record)
        values["metadata"] = values["metadata"] or {
            name: record[name] for name in PAGE_FACTS if record.get(name) is not None
        }
    columns = {name: _json(values[name]) for name in ("metadata", "slot_specs")}
    if record.get("negative_examples") is not None:
        wrong = {"negative_examples": _negatives(record["negative_examples"])}
        columns["metadata"] = jsonio.canonical_json(wrong | as_object(columns["metadata"]))
    for name in ("id", "task", "page_type", "input_text", "system_prompt", "source_id"):
        columns[name] = None if values[name] is None else str(values[name])
    return RawRow(
        reference=_reference(record, values["reference"], typed),
        capture=_capture(record),
        **columns,
    )


def as_stored(row: RawRow) -> RawRow:
    """Return a row of another store as this one can hold it.

    Its columns may be text: an answer that is no JSON becomes a JSON string, for cleaning to
    judge, as it does from any other kind of file.
    """
    return replace(
        row,
        reference=_json(row.reference),
        metadata=_json(row.metadata),
        slot_specs=_json(row.slot_specs),
    )


def plain_value(value: Any) -> Any:
    """Return `value` of a table as JSON knows it.

    Dates as ISO text, decimals as numbers, bytes as text.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain_value(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return charset.decode(bytes(value)).text
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, uuid.UUID | datetime.timedelta):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is no value of JSON")


def _page(record: dict[str, Any]) -> str:
    page, url = str(record["html"]), record.get("url")
    before = record.get("prompt") or (f"URL: {url}" if url else "")
    return f"{before}\n\n{page}" if before else page


def _reference(record: dict[str, Any], value: Any, typed: bool) -> str | None:
    if typed and "output_json" in record and value is record["output_json"]:
        # Null, too: whether that is a label, the schema says.
        return jsonio.canonical_json(value)
    return _json(value)


def _json(value: Any) -> str | None:
    """Return `value` as JSON text.

    Text that is none becomes a JSON string, for cleaning to judge.
    """
    if value is None or not isinstance(value, str):
        return None if value is None else jsonio.canonical_json(value)
    try:
        jsonio.parse_json(value)
    except ValueError:
        return jsonio.canonical_json(value)
    return value


def _capture(record: dict[str, Any]) -> str | None:
    fields = {name: record[name] for name in CAPTURE if record.get(name) is not None}
    return jsonio.canonical_json(fields) if fields else None


def _negatives(value: Any) -> list[Any]:
    """Wrong answers; a cell of a table holds them as JSON text."""
    answers = jsonio.parse_json(value) if isinstance(value, str) else value
    if not isinstance(answers, list):
        raise ValueError("negative_examples is no list")
    return answers


def as_object(text: str | None) -> dict[str, Any]:
    """Return the JSON object in `text`.

    What is none is kept, for a person to see, under `unusable`.
    """
    if not text:
        return {}
    try:
        value = jsonio.parse_json(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"unusable": value}
