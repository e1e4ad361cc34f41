"""The sources of a forge: which files are there, and each of them as text or as a named skip.

A folder that strangers fill is read with care: no link leads out of it, nothing is parsed in this
process, and a file that cannot be read never ends the run.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sem.core.errors import SemError
from sem.dataset import text
from sem.forge.base import Document
from sem.forge.reading.convert import Converter, ReadingLimits
from sem.forge.sources.chunks import Skip

KINDS = {
    ".txt": "txt",
    ".text": "txt",
    ".md": "md",
    ".markdown": "md",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
}
# What other jobs keep in the raw folder.
NOT_SOURCES = ("dataset.duckdb", "feed.jsonl")
MOST_FILES = 100_000
# How files begin that are not text, and what they are.
MAGIC = (
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"GIF8", "gif"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"\x89PNG\r\n", "png"),
    (b"BZh", "bzip2"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ", "xz"),
    (b"Rar!", "rar"),
    (b"7z\xbc\xaf", "7z"),
    (b"\x7fELF", "program"),
    (b"MZ\x90", "program"),
    (b"OggS", "ogg"),
    (b"{\\rtf", "rtf"),
    (b"SQLite format 3", "sqlite"),
    (b"PAR1", "parquet"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"%!PS", "postscript"),
    (b"\x00asm", "program"),
)
PAGE = (b"<!doctype html", b"<html")
Told = Callable[[Skip], None]


@dataclass(frozen=True)
class DocumentFile:
    """A file that may be read, and what its name says it is."""

    path: Path
    # Below the raw folder, with forward slashes.
    name: str
    kind: str


@dataclass(frozen=True)
class WebPage(Document):
    """A document that keeps its markup, as the example store keeps pages."""

    page: str = ""


def read_documents(
    raw: Path, limits: ReadingLimits, on_skip: Told, pages: bool = False
) -> Iterator[Document]:
    """Yield every readable source below `raw` in the order of their names.

    `on_skip` hears of the others.

    With `pages` each is a WebPage.
    """
    names_by_digest: dict[str, str] = {}
    with Converter(limits) as converter:
        for source in list_source_files(raw, on_skip):
            document = _read(source, limits, converter, names_by_digest, on_skip, pages)
            if document is not None:
                yield document


def list_source_files(
    raw: Path, on_skip: Told, kinds: Mapping[str, str] = KINDS
) -> list[DocumentFile]:
    """Return the files below `raw` that may be read, sorted.

    `on_skip` hears of every other but dot files.

    `kinds`: the kind of a file by its suffix.
    """
    if not raw.is_dir():
        raise SemError(f"{raw}: no such folder", "put the documents there")
    paths = list(_files(raw, on_skip))
    links = Counter((s.st_dev, s.st_ino) for s in (os.lstat(path) for path in paths))
    candidates = [_source(raw, path, links, on_skip, kinds) for path in paths]
    return sorted((s for s in candidates if s is not None), key=lambda source: source.name)


def _files(raw: Path, on_skip: Told) -> Iterator[Path]:
    """Paths below `raw` that are not folders; links to folders count as paths."""
    count = 0
    for folder, folders, names in os.walk(raw, onerror=lambda e: on_skip(_unreadable(raw, e))):
        here = Path(folder)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in linked)
        for name in sorted([*names, *linked]):
            if name.startswith(".") or (here == raw and name.startswith(NOT_SOURCES)):
                continue
            count += 1
            if count > MOST_FILES:
                raise SemError(f"{raw}: more than {MOST_FILES:,} files", "split the sources")
            yield here / name


def _unreadable(raw: Path, error: OSError) -> Skip:
    return Skip(_shown(raw, Path(error.filename or raw)), "file", "no_access", str(error.strerror))


def _source(
    raw: Path,
    path: Path,
    links: Counter[tuple[int, int]],
    on_skip: Told,
    kinds: Mapping[str, str],
) -> DocumentFile | None:
    """Return `path` as a Source, or None when `on_skip` heard why not."""
    reason, detail = _fault(raw, path, links)
    if not reason and path.suffix.lower() not in kinds:
        reason, detail = "unknown_kind", f"read are {', '.join(sorted(kinds))}"
    name = _shown(raw, path)
    if reason:
        on_skip(Skip(name, "file", reason, detail))
        return None
    return DocumentFile(path, name, kinds[path.suffix.lower()])


def _fault(raw: Path, path: Path, links: Counter[tuple[int, int]]) -> tuple[str, str]:
    """Why the file at `path` is not read, judged without opening it; ('', '') when it may be."""
    name = str(path.relative_to(raw))
    if not name.isprintable() or text.INVISIBLE.search(name):
        return (
            "unsafe_name",
            "its name holds characters that steer a terminal or cannot be written",
        )
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        # Not Path.resolve, which raises where a link leads to itself.
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(raw))
        return (
            ("link", "its target is read itself") if inside else ("link_leaves", "copy the file")
        )
    if not stat.S_ISREG(status.st_mode):
        return "not_a_file", "a device, a pipe or a socket"
    if status.st_nlink > links[status.st_dev, status.st_ino]:
        return "link_leaves", "the file has another name outside this folder; copy it"
    return "", ""


def _shown(raw: Path, path: Path) -> str:
    """Return the name of `path` below `raw` as JSON can hold it."""
    name = path.relative_to(raw).as_posix() if path.is_relative_to(raw) else path.name
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _read(
    source: DocumentFile,
    limits: ReadingLimits,
    converter: Converter,
    names_by_digest: dict[str, str],
    on_skip: Told,
    pages: bool,
) -> Document | None:
    data, reason, detail = read_content(source.path, limits.max_bytes)
    digest = sha256(data).hexdigest() if not reason else ""
    if not reason:
        reason, detail = _content_fault(source, data)
    if not reason and digest in names_by_digest:
        reason, detail = "same_bytes", names_by_digest[digest]
    if reason:
        on_skip(Skip(source.name, "file", reason, detail, sha256=digest))
        return None
    names_by_digest[digest] = source.name
    content = converter.read(source.kind, data, pages)
    if content.reason:
        on_skip(Skip(source.name, "file", content.reason, content.detail, sha256=digest))
        return None
    fields = (source.name, digest, content.text, source.kind, content.title, content.notes)
    return WebPage(*fields, page=content.page or content.text) if pages else Document(*fields)


def read_content(path: Path, max_bytes: int) -> tuple[bytes, str, str]:
    """(bytes, reason, detail) of the file at `path`; what its name told is checked again."""
    try:
        # NOFOLLOW and NONBLOCK: the file may have become a link or a pipe since it was listed.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return b"", "no_access", str(error.strerror)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b"", "not_a_file", "a device, a pipe or a socket"
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            return b"", "no_access", str(error.strerror)
    if len(data) > max_bytes:
        return b"", "too_large", f"more than {max_bytes:,} bytes"
    return (data, "", "") if data.strip() else (data, "empty", f"{len(data):,} bytes")


def _content_fault(source: DocumentFile, data: bytes) -> tuple[str, str]:
    """Return whether the bytes are another kind of file than the name says."""
    content_kind = next((kind for start, kind in MAGIC if data.startswith(start)), "text")
    if source.kind == "pdf":
        is_right = b"%PDF-" in data[:1_024]
    elif source.kind == "docx":
        if content_kind == "ole":
            return "docx_encrypted", "encrypted, or an older .doc: save it again as .docx"
        is_right = content_kind == "zip"
    else:
        is_right = content_kind == "text"
        if source.kind == "txt" and data[:64].lstrip().lower().startswith(PAGE):
            is_right, content_kind = False, "html"
    if is_right:
        return "", ""
    return "wrong_extension", f"named {source.path.suffix.lower()}, its bytes are {content_kind}"
