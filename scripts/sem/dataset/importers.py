"""Files of others to rows of the store: DuckDB, Parquet, CSV, JSON, JSONL, and ZIP chunks.

A row that cannot be one is counted with its reason; a file that cannot be read stops the import
before anything is written.
"""

import gzip
import hashlib
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, nearest
from sem.core.project import Project
from sem.dataset import store
from sem.dataset.store import RawRow

REJECTS = "import_rejects.jsonl"
MAX_LINE = 64_000_000
MAX_RATIO = 200  # of unpacked to packed bytes; text packs 3 to 20 times
MAX_UNPACKED = 64 << 30
CHUNK = re.compile(r"llm_training_chunk_[0-9A-Za-z_.:-]+\.duckdb")
SIDECAR_COUNTS = ("row_count", "rows", "total_rows", "num_rows", "count", "total_examples")


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
    stored: store.Appended | None = None
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
    """ROW with an id: a hash of its content when it has none, so that importing twice adds once."""
    meta = row.metadata
    if row.source_id:
        value = jsonio.loads(meta) if meta else {}
        meta = jsonio.dumps({"source_id": row.source_id, **value})
    if row.id:
        return replace(row, metadata=meta)
    content = jsonio.dumps([row.task, row.input_text, row.reference, row.source_id])
    return replace(row, id=hashlib.sha256(content.encode()).hexdigest()[:24], metadata=meta)


@contextmanager
def rows(path: Path, refuse: Callable[[str, str], None]) -> Iterator[Iterator[RawRow]]:
    """The rows of PATH, by what its name ends in; those that cannot be read go to REFUSE."""
    name = path.name.lower().removesuffix(".gz")
    kind = name.rsplit(".", 1)[-1]
    if kind == "zip":
        with _chunk(path) as inner, rows(inner, refuse) as found:
            yield found
    elif kind in ("duckdb", "db"):
        with store.reading(path) as opened:
            yield opened.rows()
    elif kind == "parquet":
        with store.parquet(path) as records:
            yield _from_records(records, refuse)
    elif kind in READERS:
        with _opened(path) as file:
            yield _from_records(READERS[kind](file, path, refuse), refuse)
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
    """The row in RECORD, whichever spelling its fields have; ValueError when a value is no JSON."""
    found = {
        name: next((record[s] for s in spellings if record.get(s) is not None), None)
        for name, spellings in {**store.FIELDS, **EXTRA}.items()
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
    from sem.dataset import charset

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
EXTRA = {"reference": (*store.FIELDS["reference"], "reference")}
PAGE_FACTS = ("url", "language", "page_type", "site", "domain", "source", "reliability")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.name.lower().endswith(".gz"):
        with gzip.open(path, "rb") as file:
            yield _Capped(file, max(1 << 26, MAX_RATIO * path.stat().st_size), path)
    else:
        with path.open("rb") as file:
            yield file


class _Capped:
    """A binary file that stops a bomb: more than LIMIT bytes unpacked is an error."""

    def __init__(self, file: Any, limit: int, path: Path) -> None:
        self._file, self._left, self._path = file, limit, path

    def readline(self, size: int = -1) -> bytes:
        return self._spend(self._file.readline(size))

    def read(self, size: int = -1) -> bytes:
        return self._spend(self._file.read(min(size, self._left + 1) if size >= 0 else size))

    def _spend(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise SemError(
                f"{self._path}: unpacks to more than {MAX_RATIO} times its size",
                "unpack it yourself if you trust it",
            )
        return data


def _lines(file: Any, path: Path, refuse: Callable[[str, str], None]) -> Iterator[str]:
    number = 0
    try:
        while line := file.readline(MAX_LINE):
            number += 1
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                refuse(f"line {number}", "not_utf8")
    except (OSError, EOFError) as error:
        raise SemError(f"{path}: cannot be read: {error}", "copy the file again") from error


def _jsonl(file: Any, path: Path, refuse: Callable[[str, str], None]) -> Iterator[Any]:
    for number, line in enumerate(_lines(file, path, refuse), 1):
        if line.strip():
            try:
                yield jsonio.loads(line)
            except ValueError as error:
                refuse(f"line {number}", f"not_json: {error}"[:200])


def _array(file: Any, path: Path, refuse: Callable[[str, str], None]) -> Iterator[Any]:
    text = file.read(jsonio.MAX_CHARS + 1)
    try:
        value = jsonio.loads(text.decode("utf-8-sig"))
    except (ValueError, EOFError) as error:
        raise SemError(
            f"{path}: not JSON: {error}", "large sets are JSON lines: one row a line, in .jsonl"
        ) from error
    if isinstance(value, dict):
        value = next((value[key] for key in ("examples", "rows", "data") if key in value), None)
    if not isinstance(value, list):
        raise SemError(f"{path}: holds no list of rows", "write [{…}, {…}]")
    yield from value


def _csv(file: Any, path: Path, refuse: Callable[[str, str], None]) -> Iterator[Any]:
    import csv

    csv.field_size_limit(MAX_LINE)
    lines = _lines(file, path, refuse)
    head = next(lines, "")
    mark = max(",;\t|", key=head.count)
    names = next(csv.reader([head], delimiter=mark), [])
    if len(set(names)) != len(names) or len(names) < 2:
        raise SemError(f"{path}: the first line names no columns, or one twice", "add a header")
    try:
        for number, cells in enumerate(csv.reader(lines, delimiter=mark, strict=True), 2):
            if cells and len(cells) != len(names):
                refuse(f"row {number}", f"has {len(cells)} cells, not {len(names)}")
            elif cells:
                yield {name: cell or None for name, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise SemError(f"{path}: not usable CSV: {error}", "quote cells with \"\"") from error


READERS = {"jsonl": _jsonl, "ndjson": _jsonl, "json": _array, "csv": _csv}


@contextmanager
def _chunk(path: Path) -> Iterator[Path]:
    """The DuckDB file inside the ZIP at PATH, unpacked, after its sidecar's count was compared."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise SemError(f"{path}: not a usable ZIP: {error}", "copy the file again") from error
    with archive, tempfile.TemporaryDirectory(prefix="sem-import-") as folder:
        entry, sidecar = _entries(path, archive)
        inner = Path(folder) / entry.filename
        _unpack(path, archive, entry, inner)
        wanted = _sidecar_count(path, archive.read(sidecar))
        with store.reading(inner) as opened:
            if opened.count != wanted:
                raise SemError(
                    f"{path}: {entry.filename} holds {opened.count:,} rows, its sidecar says "
                    f"{wanted:,}",
                    "the chunk is incomplete: fetch it again",
                )
        yield inner


def _entries(path: Path, archive: zipfile.ZipFile) -> tuple[zipfile.ZipInfo, zipfile.ZipInfo]:
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
        if len(parts) != 1 or parts[0] in ("..", "/") or is_link or entry.flag_bits & 1:
            raise SemError(
                f"{path}: entry {entry.filename!r} is in a folder, a link or encrypted",
                "a chunk holds llm_training_chunk_<ts>.duckdb and .json, nothing else",
            )
        if entry.file_size > MAX_UNPACKED or (
            entry.file_size > 1 << 26 and entry.file_size > MAX_RATIO * entry.compress_size
        ):
            raise SemError(
                f"{path}: entry {entry.filename!r} unpacks to {entry.file_size:,} bytes",
                "unpack it yourself if you trust it",
            )
    stores = [entry for entry in archive.infolist() if CHUNK.fullmatch(entry.filename)]
    names = {entry.filename: entry for entry in archive.infolist()}
    sidecar = names.get(stores[0].filename.removesuffix(".duckdb") + ".json") if stores else None
    if len(stores) != 1 or sidecar is None or sidecar.file_size > 1 << 20:
        raise SemError(
            f"{path}: not a chunk: {sorted(names)[:4]}",
            "a chunk holds llm_training_chunk_<ts>.duckdb and its .json with the row count",
        )
    return stores[0], sidecar


def _unpack(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path) -> None:
    try:
        with archive.open(entry) as packed, to.open("wb") as file:
            # The declared size was checked; a lying entry must not unpack beyond it.
            left = entry.file_size
            while left >= 0 and (block := packed.read(1 << 20)):
                left -= len(block)
                file.write(block)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise SemError(f"{path}: {entry.filename} is damaged: {error}", "copy it again") from error


def _sidecar_count(path: Path, data: bytes) -> int:
    try:
        value = jsonio.loads(data.decode("utf-8"))
    except ValueError as error:
        raise SemError(f"{path}: the sidecar is not JSON: {error}", "fetch it again") from error
    nested = value.get("row_counts") or value.get("tables") if isinstance(value, dict) else None
    for place, keys in ((nested, (store.TABLE,)), (value, SIDECAR_COUNTS)):
        for key in keys:
            found = place.get(key) if isinstance(place, dict) else None
            if isinstance(found, int) and not isinstance(found, bool):
                return found
    raise SemError(
        f"{path}: the sidecar names no row count", f"it has one of {', '.join(SIDECAR_COUNTS)}"
    )
