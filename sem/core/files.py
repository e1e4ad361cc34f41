"""Files that are whole or absent: atomic writes, appends, hashes, locks, faults of SQLite.

Measured (60 kills each): a plain rewrite is torn 60 times, temp + fsync + rename never.
"""

import hashlib
import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sem.core import jsonio
from sem.core.errors import Busy, SemError

try:
    import fcntl
except ImportError:  # Windows: a killed writer's file is then removed by the next sweep
    fcntl = None  # type: ignore[assignment]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Of a text that is read at once. Four bytes a character of the longest JSON that is parsed.
MAX_TEXT_BYTES = 4 * jsonio.MAX_CHARS
RESERVED = {"base", "strong", "con", "nul", "aux", "prn"}


def safe_name(kind: str, name: str, reserved: Iterable[str] = ()) -> str:
    """Return `name` when it can be one folder name on every system; SemError otherwise."""
    # `re.fullmatch`, because `$` also matches before a final newline.
    if not NAME.fullmatch(name) or ".." in name or name.endswith(".") or name in set(reserved):
        raise SemError(
            f"{kind} {name!r} is not a usable name",
            "use 1 to 64 of a-z 0-9 . _ - starting with a letter or digit, without '..'",
        )
    return name


def is_path_below(name: str) -> bool:
    """Return True if `name` is the path of a file below a folder, and cannot lead out of it."""
    parts = name.split("/")
    is_plain = name.isprintable() and "\\" not in name and ":" not in name
    return is_plain and not any(part in ("", ".", "..") for part in parts)


def write_file(path: Path, content: str | bytes) -> Path:
    """Replace `path` by `content` in one step: readers see the old file or the new one."""
    with open_atomic_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
    return path


@contextmanager
def open_atomic_file(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path`, synced, when the block ends well.

    Else nothing changes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Before the block, which may take hours.
    refuse_folder(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".tmp-{path.name}-")
    try:
        _claim(descriptor)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def move_into_place(source: Path, target: Path) -> None:
    """Give the whole file `source` the name `target` in one step that survives a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_path(source)
    os.replace(source, target)
    sync_path(target.parent)


def sync_path(path: Path) -> None:
    """Make the file `path`, or the renames in the folder `path`, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(descriptor: int) -> None:
    """Mark an open file as being written, for as long as this process has it open."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_being_written(path: Path) -> bool:
    """Return True if the temporary file at `path` belongs to a writer that is alive."""
    if fcntl is None or not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove_temporary_files(folder: Path, patterns: Sequence[str]) -> int:
    """Remove temporary files that killed writers left in `folder`; return how many.

    `patterns` are those of the files that the caller's own lock guards: another job may be writing
    its own in the same folder.
    """
    candidates = [path for pattern in patterns for path in folder.glob(pattern)]
    dead = [path for path in candidates if not is_being_written(path)]
    for path in dead:
        path.unlink(missing_ok=True)
    return len(dead)


def sha256_file(path: Path) -> str:
    """Return the hex digest of the file at `path`, read in blocks."""
    check_regular(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Return the hex digest of `text` as UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_json(value: jsonio.Json) -> str:
    """Return the hex digest of `value` as canonical JSON."""
    return sha256_text(jsonio.canonical_json(value))


def read_json(path: Path) -> jsonio.Json:
    """Return the JSON value in `path`.

    The SemError names the file when it is missing or not JSON.
    """
    try:
        return jsonio.parse_json(read_text(path))
    except ValueError as error:
        raise SemError(
            f"{path}: not JSON: {error}", "restore it, or run the command that writes it again"
        ) from error


def read_object(
    path: Path, hint: str = "restore it, or run the command that writes it again"
) -> dict[str, Any]:
    """Return the JSON object in `path`; SemError, with `hint`, when it holds anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise SemError(f"{path}: not a JSON object", hint)
    return value


def read_text(path: Path) -> str:
    """Return the UTF-8 text of `path`; raise SemError when it cannot be read as that."""
    try:
        check_plain(path)
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise SemError(f"{path}: no such file", "check the path") from error
    except UnicodeDecodeError as error:
        raise SemError(f"{path}: not UTF-8: {error.reason}", "save it as UTF-8") from error


def check_plain(path: Path) -> None:
    """Refuse what is there under the name of a text file and cannot be read as one at once."""
    check_regular(path)
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise SemError(f"{path}: larger than {MAX_TEXT_BYTES:,} bytes", "restore it, or remove it")


def check_regular(path: Path) -> None:
    """Refuse a folder, a pipe or a device under the name of a file."""
    mode = path.stat().st_mode
    refuse_folder(path)
    if not stat.S_ISREG(mode):
        raise SemError(f"{path}: a pipe or device where a file is expected", "move it away")


def refuse_folder(path: Path) -> None:
    """Refuse a folder under the name of a file that is read or written."""
    if path.is_dir():
        raise SemError(f"{path}: a folder where a file is expected", "move it away")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each row of the JSON-lines file `path`.

    The SemError names a line that is not an object.
    """
    for number, value in enumerate(read_values(path), 1):
        if not isinstance(value, dict):
            raise SemError(
                f"{path}: row {number} is a JSON {type(value).__name__}, not an object",
                "restore the file, or remove that row",
            )
        yield value


def read_values(path: Path) -> Iterator[jsonio.Json]:
    """Yield each value of the JSON-lines file `path`.

    The SemError names the line that is not JSON.
    """
    try:
        with _opened_rows(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _row(path, number, line)
    except FileNotFoundError as error:
        raise SemError(f"{path}: no such file", "run the stage that writes it first") from error
    except UnicodeDecodeError as error:
        raise SemError(f"{path}: not UTF-8: {error.reason}", "save it as UTF-8") from error


def _opened_rows(path: Path) -> IO[str]:
    try:
        return path.open("r", encoding="utf-8", newline="\n")
    except IsADirectoryError as error:
        raise SemError(f"{path}: a folder where a file is expected", "move it away") from error


def _row(path: Path, number: int, line: str) -> jsonio.Json:
    try:
        return jsonio.parse_json(line)
    except ValueError as error:
        raise SemError(f"{path}:{number}: not JSON: {error}", "fix or remove the line") from error


def write_rows(path: Path, items: Iterable[jsonio.Json], mode: int = 0o644) -> int:
    """Write `items` as canonical JSON lines, all or nothing; how many there were."""
    count = 0
    with open_atomic_file(path, mode) as file:
        for count, item in enumerate(items, 1):  # noqa: B007
            file.write((jsonio.canonical_json(item) + "\n").encode("utf-8"))
    return count


@contextmanager
def open_for_append(path: Path) -> Iterator[IO[bytes]]:
    """`path` opened for whole-line appends; a torn last line of a killed writer is cut first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_folder(path)
    with path.open("a+b") as file:
        _cut_torn_line(file)
        yield file


def append_row(file: IO[bytes], item: jsonio.Json) -> None:
    """Add one row and make it durable."""
    file.write((jsonio.canonical_json(item) + "\n").encode("utf-8"))
    file.flush()
    os.fsync(file.fileno())


def _cut_torn_line(file: IO[bytes]) -> None:
    end = file.seek(0, os.SEEK_END)
    position = end
    while position > 0:
        step = min(4096, position)
        file.seek(position - step)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            position += newline + 1 - step
            break
        position -= step
    if position < end:
        file.truncate(position)


def is_locked(path: Path) -> bool:
    """Return True if some process holds the lock file `path`."""
    try:
        with lock_file(path, ""):
            return False
    except Busy:
        return True


@contextmanager
def lock_file(path: Path, what: str, timeout_s: float = 0) -> Iterator[None]:
    """Hold the lock file `path` while `what` is written; Busy when someone else still holds it."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(str(path), timeout=timeout_s):
            yield
    except Timeout as error:
        raise Busy(
            f"{what} is being written by another process", f"wait for it ({path} is locked)"
        ) from error


SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Faults of the disk or of a permission: the file itself is as it was.
SQLITE_PLACE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
)


@dataclass(frozen=True)
class SqliteHolds:
    """What a SQLite file is, and what its owner loses or can do when it is damaged.

    HOLDS = SqliteHolds("ledger", "it holds what was spent; restore a copy, or move it away")
    with sqlite_faults(path, HOLDS):
        row = typed_row(db.execute("SELECT count(*) FROM items").fetchone(), int)
    """

    name: str
    way_out: str


@contextmanager
def sqlite_faults(path: Path, holds: SqliteHolds) -> Iterator[None]:
    """Raise a SemError that names `path` for whatever SQLite finds wrong with it.

    The file is left as it is: what it holds may still be read by hand.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # Of an extended code, the last byte is the plain one.
        code = getattr(error, "sqlite_errorcode", None) or 0
        if code & 0xFF in SQLITE_BUSY:
            raise Busy(
                f"{path}: another process is writing this {holds.name}", "wait, then run again"
            ) from error
        if code & 0xFF in SQLITE_PLACE:
            raise SemError(
                f"{path}: the {holds.name} cannot be read or written: {error}",
                "free space or correct its permissions, then run again",
            ) from error
        raise SemError(
            f"{path}: not a usable {holds.name}: {_one_line(error)}", holds.way_out
        ) from error


def _one_line(error: Exception) -> str:
    # SQLite's message on a damaged schema quotes the bytes it found there.
    if isinstance(error, UnicodeDecodeError):
        return "it holds text that is not UTF-8"
    return " ".join(str(error).split())[:200]


def typed_row(row: Any, *types: type) -> tuple[Any, ...]:
    """Return `row` when it holds a value of each of `types`; raise sqlite3.DatabaseError if not.

    SQLite keeps a type with each value, so a damaged byte makes a text of a number.
    """
    if row is None or len(row) != len(types):
        raise sqlite3.DatabaseError("a row that it must hold is missing")
    for value, kind in zip(row, types, strict=True):
        if not isinstance(value, kind):
            raise sqlite3.DatabaseError(f"a value is {type(value).__name__}, not {kind.__name__}")
    return tuple(row)


@contextmanager
def sqlite_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done within, or roll it back; only one process is within at a time."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself on some faults, and a damaged file may refuse even this.
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
