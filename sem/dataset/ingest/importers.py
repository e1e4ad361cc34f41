"""Files of others to rows of the store: DuckDB, Parquet, CSV, JSON, JSONL, and ZIP chunks.

A row that cannot be one is counted with its reason; a file that cannot be read stops the import
before anything is written.
"""

import datetime
import decimal
import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.project import Project
from sem.core.taskspec import TaskSpec
from sem.dataset.ingest import (
    capture_chunk,
    charset,
    column_mapping,
    conversations,
    csv_dialects,
    parquet_files,
    readers,
)
from sem.dataset.ingest.readers import ReadReporter, Row
from sem.dataset.store import examples_table, store, tombstones
from sem.dataset.store.examples_table import CAPTURE, RawRow

# One record of somebody else's file to one row of the store, whatever its fields are called.

# Read besides the columns of a store; pages.parquet style sets call them so.
FIELDS = {**examples_table.FIELDS, "reference": (*examples_table.FIELDS["reference"], "reference")}
PAGE_FACTS = ("url", "language", "page_type", "site", "domain", "source", "reliability")
BESIDE = ("html", "negative_examples", *conversations.TURNS, "system", "instruction", "input")
KNOWN = {*CAPTURE, *PAGE_FACTS, *BESIDE, "output", "history"}.union(*FIELDS.values())
MOST_NOTES = 40
MOST_FIELDS = 10_000


def rows_of_records(
    records: Iterable[Row],
    reporter: ReadReporter,
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
            yield where, from_record(conversations.unfold_conversation(record, tasks, task), typed)
        except conversations.UnusableConversationError as error:
            reporter.refuse(str(name or where)[:80], str(error))
        except (ValueError, TypeError) as error:
            reporter.refuse(str(name or where)[:80], f"not_json: {error}"[:200])
    for column in sorted(unread)[:MOST_NOTES]:
        reporter.note(f"not read: field {column[:80]!r}")


def from_record(record: dict[str, Any], typed: bool = False) -> RawRow:
    """Return the row in `record`; ValueError when a value is not JSON."""
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

    Its columns may be text: an answer that is not JSON becomes a JSON string, for cleaning to
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
        return charset.decode_page(bytes(value)).text
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


REJECTS = "import_rejects.jsonl"
TEXTS = {
    "jsonl": readers.iter_jsonl_rows,
    "ndjson": readers.iter_jsonl_rows,
    "json": readers.iter_json_array,
    "csv": csv_dialects.read_csv_rows,
    "tsv": csv_dialects.read_csv_rows,
}
# Refusals without one usable row: the columns are called otherwise.
HOPELESS = 50_000
TYPED = ("jsonl", "ndjson", "json")


@dataclass(frozen=True)
class ImportOptions:
    """Which rows are taken and what they are called here."""

    # Rows that name none get this one.
    task: str | None = None
    only: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    on_conflict: str = "error"
    columns: dict[str, str] = field(default_factory=dict)  # ours: theirs
    # Nobody named `task`: it is the only one of the sem.
    is_task_assumed: bool = False


@dataclass
class ImportResult:
    """What an import read, wrote and refused."""

    read: int = 0
    taken: int = 0
    other_task: int = 0
    refused: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    stored: examples_table.Appended | None = None
    report: Path | None = None


class _NothingUsable(SemError):
    """Every row of a file was refused."""

    def __init__(self) -> None:
        super().__init__("none of the rows can be used", "see the reasons in the rejects")


def import_file(
    project: Project, path: Path, options: ImportOptions, into: Path | None = None
) -> ImportResult:
    """Import `path` into `project`'s store, all of it or nothing.

    Raise SemError when it cannot be read.

    `into`: another store than the project's, for a caller that puts it in its place.
    """
    check_import_options(project, options)
    result = ImportResult(report=project.reports / REJECTS)
    with files.open_atomic_file(project.reports / REJECTS) as rejects:
        has_rows = add_source_rows(project, path, options, result, rejects, into)
    if not has_rows:
        raise nothing_usable(project, path, result)
    return result


def check_import_options(project: Project, options: ImportOptions) -> None:
    """Raise SemError when `options` name a task that `project` does not have."""
    if options.task is not None and options.task not in project.tasks:
        raise SemError(
            f"--task {options.task!r} has no TaskSpec in {project.sem}",
            suggest_nearest_name(options.task, project.tasks),
        )


def add_source_rows(
    project: Project,
    path: Path,
    options: ImportOptions,
    result: ImportResult,
    rejects: object,
    into: Path | None = None,
) -> bool:
    """Add the rows of `path` to the store and to `result`; False when all of them were refused.

    `rejects`: a binary file that gets a line for each row that is not taken.
    """
    try:
        with prepare_source_rows(project, path, options, result, rejects) as rows:
            result.stored = store.append_store_rows(
                into or project.store, rows, options.on_conflict
            )
    except _NothingUsable:
        return False
    return True


@contextmanager
def prepare_source_rows(
    project: Project, path: Path, options: ImportOptions, result: ImportResult, rejects: object
) -> Iterator[Iterator[RawRow]]:
    """The rows of `path` as the store holds them.

    Those it cannot hold go to `result` and `rejects`.
    """
    if not path.is_file():
        raise SemError(f"{path}: no such file", "check the path")
    if not path.stat().st_size:
        raise SemError(f"{path}: the file is empty", "copy it again, or export it again")

    def refuse(name: str, reason: str) -> None:
        result.rejects[reason] += 1
        result.refused += 1
        row = {"file": path.name, "row": name, "reason": reason}
        rejects.write((jsonio.canonical_json(row) + "\n").encode())  # type: ignore[attr-defined]
        if result.refused >= HOPELESS and not result.taken and not result.other_task:
            raise _NothingUsable

    def note(text: str) -> None:
        result.notes[text] += 1

    reporter = ReadReporter(refuse, note)
    if options.task is None and len(project.tasks) == 1:
        options = replace(options, task=next(iter(project.tasks)), is_task_assumed=True)
    with read_source_rows(project.tasks, path, options, reporter) as placed_rows:
        rows = _chosen(
            capture_chunk.check_prompt_hashes(placed_rows, reporter), options, result, reporter
        )
        yield tombstones.drop_taken_down(project, rows, reporter.refuse)


def nothing_usable(project: Project, path: Path, result: ImportResult) -> SemError:
    """Return what to say when every row of `path` was refused."""
    reason, count = result.rejects.most_common(1)[0]
    fields = [note.removeprefix("not read: field ") for note in result.notes if "field" in note]
    columns = f"; not read: {', '.join(fields[:8])}" if fields else ""
    hint = "name the columns with --map, as --map input_text=TEXT"
    if reason == "no_task":
        hint = f"name their task with --task, one of: {', '.join(sorted(project.tasks))}"
    return SemError(
        f"{path}: none of its {'first ' if result.refused >= HOPELESS else ''}rows can be used: "
        f"{count:,} times {reason}{columns}",
        f"{hint}; the rows are in {result.report}",
    )


def _chosen(
    placed_rows: Iterator[tuple[str, RawRow]],
    options: ImportOptions,
    result: ImportResult,
    reporter: ReadReporter,
) -> Iterator[RawRow]:
    is_noted = False
    for where, row in placed_rows:
        result.read += 1
        task = row.task or options.task
        if row.task is None and options.is_task_assumed and not is_noted:
            reporter.note(f"rows that name no task are of {task!r}, the only one")
            is_noted = True
        if options.only and task not in options.only:
            result.other_task += 1
            continue
        if task is None:
            reporter.refuse(row.id or where, "no_task")
            continue
        if not row.input_text or not row.input_text.strip():
            reporter.refuse(row.id or where, "no_input")
            continue
        if options.limit is not None and result.taken == options.limit:
            result.read -= 1
            return
        result.taken += 1
        yield name_row(replace(row, task=options.rename.get(task, task)))
    if not result.taken and result.rejects and not result.other_task:
        raise _NothingUsable


def with_task(row: RawRow, task: str | None) -> RawRow:
    """Return `row` with `task` where it names none."""
    return row if row.task or task is None else replace(row, task=task)


def name_row(row: RawRow) -> RawRow:
    """Return `row` with an id.

    A hash of its content when it has none, so importing twice adds once.
    """
    meta = row.metadata
    if row.source_id or row.capture:
        value = as_object(meta)
        if row.source_id:
            value.setdefault("source_id", row.source_id)
        if row.capture:
            value.setdefault("capture", jsonio.parse_json(row.capture))
        meta = jsonio.canonical_json(value)
    if row.id:
        return replace(row, metadata=meta)
    content = jsonio.canonical_json([row.task, row.input_text, row.reference, row.source_id])
    return replace(row, id=hashlib.sha256(content.encode()).hexdigest()[:24], metadata=meta)


@contextmanager
def read_source_rows(
    tasks: Mapping[str, TaskSpec], path: Path, options: ImportOptions, reporter: ReadReporter
) -> Iterator[Iterator[tuple[str, RawRow]]]:
    """The rows of `path` with their places, by what its name ends in; others go to `reporter`."""
    name = path.name.lower().removesuffix(".gz")
    kind = name.rsplit(".", 1)[-1]
    if kind == "zip":
        with (
            capture_chunk.unpack_chunk(path) as (inner, _),
            read_source_rows(tasks, inner, options, reporter) as placed_rows,
        ):
            yield placed_rows
    elif kind in ("duckdb", "db") and not options.columns:
        with store.open_store(path) as opened:
            numbered = enumerate(opened.rows(), 1)
            yield ((f"row {n}", as_stored(row)) for n, row in numbered)
    elif kind in ("duckdb", "db", "parquet"):
        with (parquet_files.open_parquet if kind == "parquet" else store.store_records)(
            path
        ) as raw_records:
            placed = ((f"row {n}", record) for n, record in enumerate(raw_records, 1))
            named = column_mapping.map_columns(placed, options.columns, str(path), patience=1)
            yield rows_of_records(named, reporter, tasks, options.task)
    elif kind in TEXTS:
        patience = column_mapping.PATIENCE if kind in TYPED else 1
        named = column_mapping.map_columns(
            TEXTS[kind](path, reporter), options.columns, str(path), patience
        )
        yield rows_of_records(named, reporter, tasks, options.task, kind in TYPED)
    else:
        raise SemError(
            f"{path}: unknown kind of file {kind!r}",
            "known: .duckdb .parquet .csv .json .jsonl, the last three also .gz, and .zip chunks",
        )
