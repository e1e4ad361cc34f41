"""What Sem wrote about erased rows, rewritten without them: rows dropped, documents removed.

A file with rows (JSON lines, CSV, SQLite, golden sets) keeps its other rows byte for byte. A
document about many rows (a report, a page, a diff) is removed: it can be made again. What a
person or another program put there is left alone; the scan lists it.
"""

import csv
import gzip
import io
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sem.core import files, jsonio
from sem.core.files import sqlite_faults, typed_row
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.split import snapshot
from sem.dataset.takedown import byte_scan
from sem.dataset.takedown.byte_scan import ScanTarget

# The takedown's own steps rewrite these and parts.
OWN_STEPS = ("clean.jsonl", "rejects.jsonl")
GOLDEN = "golden_set.json"
DOCUMENTS = {".json", ".md", ".html", ".txt", ".log", ".yaml", ".yml", ".png", ".svg", ".parquet"}


@dataclass
class PurgeResult:
    """How many rows went from which file, and which documents were removed."""

    rows: dict[str, int] = field(default_factory=dict)
    documents: list[str] = field(default_factory=list)


def purge_files(project: Project, sought: ScanTarget) -> PurgeResult:
    """Rewrite or remove every file of `project`'s own that holds a trace of `sought`."""
    purged = PurgeResult()
    for path in list(byte_scan.paths_to_scan(project)):
        if not is_of_this_project(project, path):
            continue
        if path.name.startswith(".tmp-") or ".building-" in path.as_posix():
            if not has_writer(project, path):
                path.unlink(missing_ok=True)
            continue
        if path.suffix in byte_scan.WEIGHTS or not _is_hit(path, sought):
            continue
        where = byte_scan.receipt_path(project, path)
        way = WAYS.get(path.name) or WAYS.get(path.suffix)
        if way is not None:
            purged.rows[where] = way(path, sought)
        elif path.suffix in DOCUMENTS and project.adapters not in path.parents:
            path.unlink()
            files.sync_path(path.parent)
            purged.documents.append(where)
    return purged


def has_writer(project: Project, path: Path) -> bool:
    """Return True if the unfinished file at `path` belongs to a process that is alive.

    An export that is alive asks for taint before it publishes, and takes its files away itself.
    """
    building = next((p for p in path.parents if p.name.startswith(".building-")), None)
    if building is not None:
        run_id = building.name.removeprefix(".building-")
        return files.is_locked(building.with_name(f".{run_id}.lock"))
    if path.parent == project.processed:
        locks = {".clean.lock": clean.TEMPORARY, ".snapshot.lock": snapshot.TEMPORARY}
        for name, patterns in locks.items():
            if any(path.match(pattern) for pattern in patterns):
                return files.is_locked(project.processed / name)
    return files.is_being_written(path)


def is_of_this_project(project: Project, path: Path) -> bool:
    """Return whether Sem wrote the file at `path`, for this project, in a way that may be
    rewritten.
    """
    data = project.root / "data"
    own = (
        data / project.sem,
        data / ".lm",
        project.root / "reports" / project.sem,
        project.root / "models" / project.sem,
        project.root / "evals",
        project.root / "wandb",
    )
    not_own = (data / project.sem / "raw", data / project.sem / "governance")
    is_part = path.parent == project.processed and (
        path.name in OWN_STEPS or is_frozen(path.name) or path.name == "clean.json"
    )
    inside = any(folder in path.parents for folder in own)
    return inside and not is_part and not any(folder in path.parents for folder in not_own)


def is_frozen(name: str) -> bool:
    """Return whether `name` is that of a snapshot's part or of its facts."""
    stem, _, rest = name.partition(".")
    if rest == "json":
        return stem.startswith("v") and stem[1:].isdigit()
    return stem in ("train", "val", "test") and rest.startswith("v") and rest.endswith(".jsonl")


def _is_hit(path: Path, sought: ScanTarget) -> bool:
    try:
        return byte_scan.holds_trace(path, sought)
    except byte_scan.UNREADABLE:
        # The scan at the end names it as unreadable.
        return False


def _lines(path: Path, sought: ScanTarget) -> int:
    count = 0
    with path.open("rb") as old, files.open_atomic_file(path) as new:
        count = _sift(old, new.write, sought)
    return count


def _sift(lines: object, write: Callable[[bytes], object], sought: ScanTarget) -> int:
    count = 0
    for line in lines:  # type: ignore[attr-defined]
        if _is_row(line, sought):
            count += 1
        else:
            write(line)
    return count


def _is_row(line: bytes, sought: ScanTarget) -> bool:
    try:
        return sought.is_row(jsonio.parse_json(line.decode("utf-8")))
    except ValueError:  # a torn line has no fields: what it spells decides
        return sought.inside(line) or sought.named(line)


def _packed_lines(path: Path, sought: ScanTarget) -> int:
    with (
        gzip.open(path, "rb") as old,
        files.open_atomic_file(path) as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as new,
    ):
        return _sift(old, new.write, sought)


def _table(path: Path, sought: ScanTarget) -> int:
    text = path.read_bytes().decode("utf-8-sig")
    buffer, count = io.StringIO(newline=""), 0
    writer = csv.writer(buffer, lineterminator="\n")
    for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""))):
        is_gone = number > 0 and sought.is_row([cell.removeprefix("'") for cell in cells])
        count += is_gone
        if not is_gone:
            writer.writerow(cells)
    files.write_file(path, buffer.getvalue())
    return count


def _golden(path: Path, sought: ScanTarget) -> int:
    """Return a golden set as a person wrote it.

    Its list, wherever it stands, without the entries.
    """
    value = files.read_json(path)
    lists = [value] if isinstance(value, list) else [v for v in value.values() if type(v) is list]
    count = 0
    for entries in lists:
        rest = [entry for entry in entries if not sought.is_row(entry)]
        count += len(entries) - len(rest)
        entries[:] = rest
    files.write_file(path, jsonio.pretty_json(value))
    return count


def _sqlite(path: Path, sought: ScanTarget) -> int:
    """Return rows of every table; VACUUM writes a new file, so that no free page keeps them."""
    count = 0
    with (
        sqlite_faults(path, byte_scan.DATABASE),
        closing(sqlite3.connect(path, timeout=60.0, isolation_level=None)) as db,
    ):
        db.execute("PRAGMA secure_delete = ON")
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        for (name,) in [typed_row(row, str) for row in db.execute(query)]:
            quoted = '"' + name.replace('"', '""') + '"'
            row_ids = [
                row[0]
                for row in db.execute(f"SELECT rowid, * FROM {quoted}")  # noqa: S608
                if sought.is_row([v for v in row[1:] if isinstance(v, str)])
            ]
            db.executemany(f"DELETE FROM {quoted} WHERE rowid = ?", [(n,) for n in row_ids])  # noqa: S608
            count += len(row_ids)
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return count


def _archive(path: Path, sought: ScanTarget) -> int:
    """Return a night's ZIP: its JSON lines without the rows, its documents without those that
    hit.
    """
    folder = path.with_name(f".tmp-{path.stem}")
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(path) as archive:
        # Our own file: no path in it leads elsewhere.
        archive.extractall(folder)
    count = sum(_member(inner, sought) for inner in sorted(folder.rglob("*")) if inner.is_file())
    packed = Path(
        shutil.make_archive(str(folder.with_name(f".tmp-new-{path.stem}")), "zip", folder)
    )
    files.write_file(path, packed.read_bytes())
    packed.unlink()
    shutil.rmtree(folder)
    return count


def _member(path: Path, sought: ScanTarget) -> int:
    if not _is_hit(path, sought):
        return 0
    way = WAYS.get(path.suffix)
    if way is not None:
        return way(path, sought)
    path.unlink()
    return 1


WAYS: dict[str, Callable[[Path, ScanTarget], int]] = {
    GOLDEN: _golden,
    ".jsonl": _lines,
    ".gz": _packed_lines,
    ".csv": _table,
    ".sqlite": _sqlite,
    ".zip": _archive,
}
