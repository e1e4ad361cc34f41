"""Files of others to rows of the store: DuckDB, Parquet, CSV, JSON, JSONL, and ZIP chunks.

A row that cannot be one is counted with its reason; a file that cannot be read stops the import
before anything is written.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, nearest
from sem.core.project import Project
from sem.dataset import charset, chunk, layout, readers, store
from sem.dataset.layout import RawRow

REJECTS = "import_rejects.jsonl"


@dataclass(frozen=True)
class Options:
    """Which rows are taken and what they are called here."""

    task: str | None = None  # rows that name none get this one
    only: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    on_conflict: str = "error"


@dataclass
class Result:
    """What an import read, wrote and refused."""

    read: int = 0
    other_task: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    stored: layout.Appended | None = None
    report: Path | None = None


def run(project: Project, path: Path, options: Options) -> Result:
    """Import PATH into PROJECT's store, all of it or nothing; SemError when it cannot be read."""
    if not path.is_file():
        raise SemError(f"{path}: no such file", "check the path")
    if options.task is not None and options.task not in project.tasks:
        raise SemError(
            f"--task {options.task!r} has no TaskSpec in {project.sem}",
            nearest(options.task, project.tasks),
        )
    result = Result(report=project.reports / REJECTS)
    with files.replacing(project.reports / REJECTS) as rejects:

        def refuse(name: str, reason: str) -> None:
            result.rejects[reason] += 1
            row = {"file": path.name, "row": name, "reason": reason}
            rejects.write((jsonio.dumps(row) + "\n").encode())

        with rows(path, refuse) as found:
            chosen = _chosen(found, options, result, refuse)
            result.stored = store.append(project.store, chosen, options.on_conflict)
    return result


def _chosen(
    found: Iterator[RawRow], options: Options, result: Result, refuse: Callable[[str, str], None]
) -> Iterator[RawRow]:
    taken = 0
    for number, row in enumerate(found, 1):
        result.read += 1
        task = row.task or options.task
        if options.only and task not in options.only:
            result.other_task += 1
            continue
        if task is None:
            refuse(row.id or f"row {number}", "no_task")
            continue
        if not row.input_text or not row.input_text.strip():
            refuse(row.id or f"row {number}", "no_input")
            continue
        if options.limit is not None and taken == options.limit:
            return
        taken += 1
        yield _named(replace(row, task=options.rename.get(task, task)))


def _named(row: RawRow) -> RawRow:
    """ROW with an id: a hash of its content when it has none, so importing twice adds once."""
    meta = row.metadata
    if row.source_id or row.capture:
        value = _object(meta)
        if row.source_id:
            value.setdefault("source_id", row.source_id)
        if row.capture:
            value.setdefault("capture", jsonio.loads(row.capture))
        meta = jsonio.dumps(value)
    if row.id:
        return replace(row, metadata=meta)
    content = jsonio.dumps([row.task, row.input_text, row.reference, row.source_id])
    return replace(row, id=hashlib.sha256(content.encode()).hexdigest()[:24], metadata=meta)


def _object(text: str | None) -> dict[str, Any]:
    """The JSON object in TEXT; what is none is kept, for a person to see, under `unusable`."""
    if not text:
        return {}
    try:
        value = jsonio.loads(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"unusable": value}


@contextmanager
def rows(path: Path, refuse: Callable[[str, str], None]) -> Iterator[Iterator[RawRow]]:
    """The rows of PATH, by what its name ends in; those that cannot be read go to REFUSE."""
    name = path.name.lower().removesuffix(".gz")
    kind = name.rsplit(".", 1)[-1]
    if kind == "zip":
        with chunk.unpacked(path) as inner, rows(inner, refuse) as found:
            yield found
    elif kind in ("duckdb", "db"):
        with store.reading(path) as opened:
            yield opened.rows()
    elif kind == "parquet":
        with store.parquet(path) as records:
            yield _from_records(records, refuse)
    elif kind in readers.READERS:
        with readers.opened(path) as file:
            yield _from_records(readers.READERS[kind](file, path, refuse), refuse)
    else:
        raise SemError(
            f"{path}: unknown kind of file {kind!r}",
            "known: .duckdb .parquet .csv .json .jsonl, the last three also .gz, and .zip chunks",
        )


def _from_records(records: Any, refuse: Callable[[str, str], None]) -> Iterator[RawRow]:
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            refuse(f"row {number}", "not_an_object")
            continue
        try:
            yield from_record(record)
        except (ValueError, TypeError) as error:
            refuse(str(record.get("id") or f"row {number}")[:80], f"not_json: {error}"[:200])


def from_record(record: dict[str, Any]) -> RawRow:
    """The row in RECORD, whatever its fields are called; ValueError when a value is no JSON."""
    found = {
        name: next((record[s] for s in spellings if record.get(s) is not None), None)
        for name, spellings in {**layout.FIELDS, **EXTRA}.items()
    }
    page = record.get("html")
    if page is not None:
        found["input_text"] = _page(page, record)
        found["metadata"] = found["metadata"] or {
            name: record[name] for name in PAGE_FACTS if record.get(name) is not None
        }
    made = {name: _json(found[name]) for name in ("metadata", "slot_specs")}
    for name in ("id", "task", "page_type", "input_text", "system_prompt", "source_id"):
        made[name] = None if found[name] is None else str(found[name])
    return RawRow(reference=_json(found["reference"]), **made)


def _page(page: Any, record: dict[str, Any]) -> str:
    page = charset.decode(page).text if isinstance(page, bytes) else str(page)
    before = record.get("prompt") or (f"URL: {record['url']}" if record.get("url") else "")
    return f"{before}\n\n{page}" if before else page


def _json(value: Any) -> str | None:
    """VALUE as JSON text; text that is none becomes a JSON string, for cleaning to judge."""
    if value is None or not isinstance(value, str):
        return None if value is None else jsonio.dumps(value)
    try:
        jsonio.loads(value)
    except ValueError:
        return jsonio.dumps(value)
    return value


# Read besides the columns of a store; pages.parquet style sets call them so.
EXTRA = {"reference": (*layout.FIELDS["reference"], "reference")}
PAGE_FACTS = ("url", "language", "page_type", "site", "domain", "source", "reliability")
