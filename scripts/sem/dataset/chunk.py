"""ZIP chunks of the production capture: one DuckDB file and a sidecar that says how many rows."""

import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sem.core import jsonio
from sem.core.errors import SemError
from sem.dataset import store
from sem.dataset.readers import MAX_RATIO, MIN_CAP

CHUNK = re.compile(r"llm_training_chunk_[0-9A-Za-z_.:-]+\.duckdb")
SIDECAR_COUNTS = ("row_count", "rows", "total_rows", "num_rows", "count", "total_examples")
MAX_UNPACKED = 64 << 30
MAX_SIDECAR = 1 << 20
TABLE = "examples"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
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
            entry.file_size > MIN_CAP and entry.file_size > MAX_RATIO * entry.compress_size
        ):
            raise SemError(
                f"{path}: entry {entry.filename!r} unpacks to {entry.file_size:,} bytes",
                "unpack it yourself if you trust it",
            )
    stores = [entry for entry in archive.infolist() if CHUNK.fullmatch(entry.filename)]
    names = {entry.filename: entry for entry in archive.infolist()}
    sidecar = names.get(stores[0].filename.removesuffix(".duckdb") + ".json") if stores else None
    if len(stores) != 1 or sidecar is None or sidecar.file_size > MAX_SIDECAR:
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
    for place, keys in ((nested, (TABLE,)), (value, SIDECAR_COUNTS)):
        for key in keys:
            found = place.get(key) if isinstance(place, dict) else None
            if isinstance(found, int) and not isinstance(found, bool):
                return found
    raise SemError(
        f"{path}: the sidecar names no row count", f"it has one of {', '.join(SIDECAR_COUNTS)}"
    )
