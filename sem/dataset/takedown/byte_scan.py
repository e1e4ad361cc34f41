"""The byte scan: every file under a project's root, unpacked, searched for what was erased.

Archives, gzip, Parquet, DuckDB and SQLite are read by what they hold, DuckDB and SQLite files also
as bytes, since deleted rows can still lie in them. Weights hold no text and are counted, not read.
"""

import csv
import gzip
import io
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from sem.core import jsonio
from sem.core.errors import SemError
from sem.core.files import SqliteHolds, sqlite_faults, typed_row
from sem.core.project import Project
from sem.dataset.ingest import parquet_files
from sem.dataset.personal import person
from sem.dataset.personal.person import Person
from sem.dataset.store import row_marks
from sem.dataset.takedown import erase
from sem.dataset.takedown.shingles import ShingleSet

ROOTS = ("data", "reports", "models", "configs", "evals", "wandb")
WEIGHTS = {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".onnx", ".npy", ".npz"}
VOCABULARY = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"}
BLOCK, OVERLAP = 8 << 20, 4_096
MOST_UNPACKED = 8 << 30
# What a takedown that goes on works with, and removes at its end.
WORKING = ".takedown-"
# In no UTF-8 text, and no punctuation to a shingle.
SEPARATOR = b"\xff"
SPACES = bytes.maketrans(b"\"'<>,;|()[]{}&`\\\r\n\t\xff", b" " * 20)
BREAKS = bytes(0xFF if c < 9 or 13 < c < 32 else c for c in range(256))
MOST_JSON = 64 << 20
# In a database's bytes the end of one cell touches the start of the next, so that one shingle can
# be met by accident (measured: 1 in 9 MB); 16 in a block are a text of 39 letters or more.
RAW_LEAST = 16
# What a file can raise that is damaged or cannot be read.
UNREADABLE = (SemError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
DATABASE = SqliteHolds(
    "SQLite file",
    "restore a copy or move it away, then run the same command again",
)


@dataclass(frozen=True)
class ScanTarget:
    """What was erased: its shingles, the ids of its rows, the people it was about."""

    trace: ShingleSet
    names: frozenset[str] = frozenset()
    people: tuple[Person, ...] = ()

    def inside(self, data: bytes) -> bool:
        """Return whether `data`, bytes of any text, holds a shingle or one of the people."""
        if self.trace.count(data):
            return True
        text = data.decode("utf-8", "replace") if self.people else ""
        return any(person.mentions_person(text, target) for target in self.people)

    def named(self, data: bytes) -> bool:
        """Return whether `data` spells one of the ids, with nothing but punctuation around it."""
        words = data.translate(SPACES).split(b" ")
        return any(word in self._words for word in words) if self._words else False

    @property
    def _words(self) -> frozenset[bytes]:
        return _encoded(self.names)

    def is_row(self, row: Any) -> bool:
        """Return whether `row`, a JSON value, is about one of the ids or holds erased text."""
        if any(text in self.names for text in _names(row)):
            return True
        return any(self.inside(block) for block in join_texts(_names(row)))


_KEPT: dict[frozenset[str], frozenset[bytes]] = {}
# An id such as `a1` or `2024` is part of too much else.
LEAST_NAME = 5


def is_telling(name: str) -> bool:
    """Return whether the id `name` is looked for in documents, where nothing says what is an
    id.
    """
    return len(name) >= LEAST_NAME and not name.isdigit()


def _encoded(names: frozenset[str]) -> frozenset[bytes]:
    if names not in _KEPT:
        _KEPT.clear()
        _KEPT[names] = frozenset(n.encode() for n in names if is_telling(n))
    return _KEPT[names]


def _names(value: Any) -> Iterator[str]:
    """Yield every text and every key in `value`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)


@dataclass
class ScanResult:
    """What a scan met: files with traces, how many it read, what it could not read."""

    hits: list[str] = field(default_factory=list)  # relative to the root
    read: int = 0
    bytes: int = 0
    # A dict, because asdict() of Python 3.11 makes pairs out of a Counter, which are not JSON.
    left_out: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def scan_tree(
    project: Project, sought: ScanTarget, note: Callable[[Path], object] | None = None
) -> ScanResult:
    """Return every trace of `sought` below `project`'s root."""
    scan = ScanResult()
    for path in paths_to_scan(project):
        if path.suffix in WEIGHTS or path.name in VOCABULARY:
            kind = "weights and vocabularies"
            scan.left_out[kind] = scan.left_out.get(kind, 0) + 1
            continue
        if note:
            note(path)
        scan.read += 1
        scan.bytes += path.stat().st_size
        where = receipt_path(project, path)
        try:
            if holds_trace(path, sought):
                scan.hits.append(where)
        except UNREADABLE as error:
            scan.unreadable[where] = " ".join(str(error).split())[:160]
    return scan


def paths_to_scan(project: Project) -> Iterator[Path]:
    """Yield the files of `project`'s root that could hold rows, its store included, in order."""
    roots = [project.root / name for name in ROOTS]
    candidates = {path for root in roots if root.is_dir() for path in root.rglob("*")}
    candidates |= set(project.store.parent.glob(project.store.name + "*"))
    base = project.base_models
    for path in sorted(candidates):
        is_working = path.name.startswith(WORKING)
        if (
            path.is_file()
            and not path.is_symlink()
            and not is_working
            and base not in path.parents
        ):
            yield path


def receipt_path(project: Project, path: Path) -> str:
    """Return `path` as a receipt names it."""
    return path.relative_to(project.root).as_posix() if project.root in path.parents else str(path)


def holds_trace(path: Path, sought: ScanTarget) -> bool:
    """Return whether the file at `path`, read by what it is, holds a trace of `sought`."""
    if any(sought.inside(block) or sought.named(block) for block in file_blocks(path)):
        return True
    return any(sought.trace.count(block) >= RAW_LEAST for block in database_blocks(path))


def file_blocks(path: Path) -> Iterator[bytes]:
    """Yield what the file at `path` holds, by what it is; SEPARATOR stands where one text ends.

    Without it the end of one value and the start of the next would read as erased text.
    """
    head = _head(path)
    if not _is_database(head):
        with path.open("rb") as file:
            yield from _texts(file, path.name)
    if head[8:12] == b"DUCK":
        yield from join_texts(text for value in erase.store_texts(path) for text in _values(value))
    elif head.startswith(b"SQLite format 3"):
        yield from join_texts(text for value in _sqlite(path) for text in _values(value))
    elif head.startswith(b"PAR1"):
        with parquet_files.open_parquet(path) as records:
            yield from join_texts(
                text for record in records for text in row_marks.iter_strings(record)
            )
    elif head.startswith(b"\x1f\x8b"):
        with gzip.open(path, "rb") as unpacked:
            yield from _texts(cast("IO[bytes]", unpacked), path.name.removesuffix(".gz"))
    elif head.startswith(b"PK\x03\x04") or path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    yield from _texts(file, entry.filename)


def database_blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a database file as they stand: deleted rows can lie in its free pages."""
    if _is_database(_head(path)):
        with path.open("rb") as file:
            yield from overlapping_blocks(file)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _is_database(head: bytes) -> bool:
    return head[8:12] == b"DUCK" or head.startswith(b"SQLite format 3")


def _texts(file: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield `file`, called `name`, as its rows and cells where it has such, else as it stands."""
    if name.endswith(".jsonl"):
        lines = (line.decode("utf-8", "replace") for line in file)
        yield from join_texts(text for line in lines for text in _values(line))
    elif name.endswith(".json"):
        data = file.read(MOST_JSON)
        yield from join_texts(_values(data.decode("utf-8", "replace")))
        yield from overlapping_blocks(file)
    elif name.endswith(".csv"):
        csv.field_size_limit(MOST_JSON)
        sheet = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
        yield from join_texts(cell for cells in csv.reader(sheet) for cell in cells)
    else:
        yield from overlapping_blocks(file)


def _values(text: str) -> Iterator[str]:
    """Return every text and key in `text` where it is JSON, else `text` itself."""
    if text.lstrip()[:1] not in ("{", "["):
        return iter((text,))
    try:
        return _names(jsonio.parse_json(text))
    except ValueError:
        return iter((text,))


def overlapping_blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield `file` in blocks, each with the end of the one before, so that nothing is cut in
    two.
    """
    tail, total = b"", 0
    while block := file.read(BLOCK):
        total += len(block)
        if total > MOST_UNPACKED:
            raise SemError(f"unpacks to more than {MOST_UNPACKED:,} bytes", "search it by hand")
        # Control characters end a text in binary files.
        yield (tail + block).translate(BREAKS)
        tail = block[-OVERLAP:]


def join_texts(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield `texts` in blocks with SEPARATOR between them; a text is never cut."""
    encoded: list[bytes] = []
    size = 0
    for text in texts:
        encoded.append(text.encode("utf-8", "surrogatepass"))
        size += len(encoded[-1])
        if size > BLOCK:
            yield SEPARATOR.join(encoded)
            encoded, size = [], 0
    if encoded:
        yield SEPARATOR.join(encoded)


def _sqlite(path: Path) -> Iterator[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    with (
        sqlite_faults(path, DATABASE),
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
    ):
        for (name,) in [typed_row(row, str) for row in db.execute(query)]:
            quoted = name.replace('"', '""')
            for row in db.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608
                yield from (str(value) for value in row if isinstance(value, str))
