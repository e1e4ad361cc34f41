"""ZIP chunks of the production capture: one DuckDB file and a sidecar that says how many rows."""

import hashlib
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from sem.core import jsonio
from sem.core.errors import SemError
from sem.dataset.ingest.readers import MAX_RATIO, MIN_CAP, ReadReporter
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow

# What production capture says of itself: a prompt hash is compared where its rule is known.

# Rows that decide whether the rule is known.
HEAD = 64
# Length of the hex digest -> what makes it.
RULES = {64: "sha256", 40: "sha1", 32: "md5"}


def check_prompt_hashes(
    rows: Iterable[tuple[str, RawRow]], reporter: ReadReporter
) -> Iterator[tuple[str, RawRow]]:
    """Yield `rows` without those whose prompt_hash denies their prompt.

    The rule is known when the hash of one of the first rows is that of its prompt; a hash of
    another rule (a salt, the rendered chat) is kept and said to be unchecked.
    """
    rows = iter(rows)
    head = list(islice(rows, HEAD))
    is_known = any(_agrees(row) for _, row in head)
    counts = {True: 0, False: 0}
    for where, row in chain(head, rows):
        agrees = _agrees(row)
        if agrees is None:
            yield where, row
        elif is_known and not agrees:
            reporter.refuse(row.id or where, "prompt_hash_differs")
        else:
            counts[agrees] += 1
            yield where, row
    if counts[True]:
        reporter.note(f"prompt_hash agrees with the prompt: {counts[True]:,} rows")
    if counts[False]:
        reporter.note(f"prompt_hash kept unchecked, its rule is not known: {counts[False]:,} rows")


def _agrees(row: RawRow) -> bool | None:
    """Return whether `row`'s prompt_hash is that of its prompt; None when it has none."""
    if not row.capture or '"prompt_hash"' not in row.capture:
        return None
    prompt_hash = jsonio.parse_json(row.capture).get("prompt_hash")
    if not isinstance(prompt_hash, str) or not prompt_hash:
        return None
    digest = prompt_hash.lower().rpartition(":")[2]
    rule = RULES.get(len(digest))
    if rule is None:
        return False
    text = (row.input_text or "").encode("utf-8", "surrogatepass")
    return hashlib.new(rule, text, usedforsecurity=False).hexdigest() == digest


CHUNK = re.compile(r"llm_training_chunk_[0-9A-Za-z_.:-]+\.duckdb")
SIDECAR_COUNTS = ("row_count", "rows", "total_rows", "num_rows", "count", "total_examples")
MAX_UNPACKED = 64 << 30
MAX_SIDECAR = 1 << 20
# Bytes of the central directory; two entries take about 250.
MAX_LISTING = 64 << 10
TABLE = "examples"
LONGEST_COMMENT = 65_535
END = b"PK\x05\x06"


@contextmanager
def unpack_chunk(path: Path) -> Iterator[tuple[Path, int]]:
    """The DuckDB file inside the ZIP at `path`, unpacked, and its rows as the sidecar counts them.

    Raise SemError when the archive is not exactly a chunk, unpacks beyond what it says, or holds
    another number of rows than its sidecar.
    """
    _check_listing(path)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise SemError(f"{path}: not a usable ZIP: {error}", "copy the file again") from error
    with archive, tempfile.TemporaryDirectory(prefix="sem-import-") as folder:
        entry, sidecar = _entries(path, archive)
        inner, sidecar_path = Path(folder) / "chunk.duckdb", Path(folder) / "chunk.json"
        _unpack(path, archive, sidecar, sidecar_path)
        count = _sidecar_count(path, sidecar_path.read_bytes())
        _unpack(path, archive, entry, inner)
        with store.open_store(inner) as opened:
            if opened.count != count:
                raise SemError(
                    f"{path}: {entry.filename} holds {opened.count:,} rows, its sidecar says "
                    f"{count:,}",
                    "the chunk is incomplete: fetch it again",
                )
        yield inner, count


def _check_listing(path: Path) -> None:
    """Refuse an archive whose list of entries is long before anything reads that list."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LONGEST_COMMENT - 22))
            tail = file.read()
    except OSError as error:
        raise SemError(f"{path}: cannot be read: {error.strerror}", "check the path") from error
    start = tail.rfind(END)
    listing = int.from_bytes(tail[start + 12 : start + 16], "little") if start >= 0 else 0
    if listing > MAX_LISTING:
        raise SemError(
            f"{path}: its list of entries is {listing:,} bytes long",
            "a chunk holds llm_training_chunk_<ts>.duckdb and .json, nothing else",
        )


def _entries(path: Path, archive: zipfile.ZipFile) -> tuple[zipfile.ZipInfo, zipfile.ZipInfo]:
    for entry in archive.infolist():
        _check_entry(path, entry)
    names = [entry.filename for entry in archive.infolist()]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SemError(f"{path}: entry {twice!r} appears twice", "export the chunk again")
    entries = {entry.filename: entry for entry in archive.infolist()}
    stores = [name for name in names if CHUNK.fullmatch(name)]
    sidecar = stores[0].removesuffix(".duckdb") + ".json" if stores else ""
    if len(stores) != 1 or set(names) != {stores[0], sidecar}:
        raise SemError(
            f"{path}: not a chunk: {sorted(names)[:4]}",
            "a chunk holds llm_training_chunk_<ts>.duckdb and its .json with the row count",
        )
    if entries[sidecar].file_size > MAX_SIDECAR:
        raise SemError(
            f"{path}: the sidecar is {entries[sidecar].file_size:,} bytes long",
            "it should hold row counts only: fetch the chunk again",
        )
    return entries[stores[0]], entries[sidecar]


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
    is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
    if len(parts) != 1 or parts[0] in ("..", "/") or is_link or entry.flag_bits & 1:
        raise SemError(
            f"{path}: entry {entry.filename!r} is in a folder, a link or encrypted",
            "a chunk holds llm_training_chunk_<ts>.duckdb and .json, nothing else",
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SemError(
            f"{path}: entry {entry.filename!r} is compressed with method {entry.compress_type}",
            "chunks are stored or deflated: pack it again",
        )
    if entry.file_size > MAX_UNPACKED or (
        entry.file_size > MIN_CAP and entry.file_size > MAX_RATIO * entry.compress_size
    ):
        raise SemError(
            f"{path}: entry {entry.filename!r} unpacks to {entry.file_size:,} bytes",
            "if you trust it, unpack it yourself",
        )


def _unpack(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path) -> None:
    try:
        with archive.open(entry) as packed, to.open("wb") as file:
            # The declared size was checked; a lying entry must not unpack beyond it.
            bytes_left = entry.file_size
            while bytes_left >= 0 and (block := packed.read(1 << 20)):
                bytes_left -= len(block)
                file.write(block)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, zlib.error) as error:
        raise _damaged(path, entry, str(error)) from error
    if bytes_left:
        raise _damaged(path, entry, f"it unpacks to other than its {entry.file_size:,} bytes")


def _damaged(path: Path, entry: zipfile.ZipInfo, why: str) -> SemError:
    return SemError(f"{path}: {entry.filename} is damaged: {why}", "copy it again")


def _sidecar_count(path: Path, data: bytes) -> int:
    try:
        value = jsonio.parse_json(data.decode("utf-8"))
    except ValueError as error:
        raise SemError(f"{path}: the sidecar is not JSON: {error}", "fetch it again") from error
    nested = value.get("row_counts") or value.get("tables") if isinstance(value, dict) else None
    for place, keys in ((nested, (TABLE,)), (value, SIDECAR_COUNTS)):
        for key in keys:
            count = place.get(key) if isinstance(place, dict) else None
            if isinstance(count, int) and not isinstance(count, bool):
                return count
    raise SemError(
        f"{path}: the sidecar names no row count", f"it needs one of {', '.join(SIDECAR_COUNTS)}"
    )
