"""What a published package is: every file by its hash, and on what it was let out.

    listing = listing.describe_package(folder, reason=None, at=now)

A listing is written last, so a package that has one is whole. It comes from strangers when a
package is fetched: names, hashes and sizes are checked before anything is written.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest, schema, state
from sem.core.errors import SemError
from sem.core.state import FileEntry
from sem.package.export import documents
from sem.package.verify.verify import SIGNATURE

FORMAT = "published.v1"
MAX_FILES = 1_000
MAX_LISTING_BYTES = 1_000_000
RUN_ID = "^[a-z0-9][a-z0-9._-]{0,63}$"
ENTRY: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["bytes", "sha256"],
    "properties": {
        "bytes": {"type": "integer", "minimum": 0},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["format", "sem", "run_id", "published_at", "gate", "reason", "files"],
    "properties": {
        "format": {"const": FORMAT},
        "sem": {"type": "string", "pattern": RUN_ID},
        "run_id": {"type": "string", "pattern": RUN_ID},
        "published_at": {"type": ["string", "null"]},
        "gate": {"enum": ["PASS", "FAIL", "INSUFFICIENT", None]},
        "reason": {"type": ["string", "null"]},
        "files": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAX_FILES,
            "additionalProperties": ENTRY,
        },
    },
}


@dataclass(frozen=True)
class Listing:
    """A published package; `gate` is its verdict, `reason` why it was let out without a PASS."""

    sem: str
    run_id: str
    # The hub tells it of a commit, not of a file in it.
    published_at: str | None
    gate: str | None
    reason: str | None
    files: Mapping[str, FileEntry]

    @property
    def bytes(self) -> int:
        """Return how large all files are together."""
        return sum(entry["bytes"] for entry in self.files.values())

    def as_text(self) -> str:
        """Return the listing as it is written."""
        return jsonio.pretty_json({"format": FORMAT, **asdict(self)})


def describe_package(folder: Path, reason: str | None, at: datetime) -> Listing:
    """Return the listing of the verified package in `folder`.

    Raise SemError when its gate did not pass and no `reason` is told.
    """
    facts = manifest.read_manifest(folder)
    verdict = _gate_verdict(folder)
    if verdict != "PASS" and not reason:
        raise SemError(
            f"{folder}: not published: "
            + (f"its gate says {verdict}" if verdict else "it holds no verdict of the gate"),
            "run `fab eval.gate` and export it again, or publish it anyway with a --reason",
        )
    entries: dict[str, FileEntry] = dict(facts["files"])
    for name in (manifest.NAME, SIGNATURE):
        path = folder / name
        if path.is_file():
            digest = files.sha256_file(path)
            entries[name] = {"bytes": path.stat().st_size, "sha256": digest}
    kept_reason = reason if verdict != "PASS" else None
    return Listing(facts["sem"], facts["run_id"], at.isoformat(), verdict, kept_reason, entries)


def _gate_verdict(folder: Path) -> str | None:
    gate = state.read_if_there(folder / documents.GATE, state.Gate)
    return gate["verdict"] if gate else None


def parse_listing(text: bytes, where: str) -> Listing:
    """Return the listing in `text`; the SemError says what in `where` is wrong."""
    try:
        value = jsonio.parse_json(text.decode("utf-8"))
    except ValueError as error:
        message = f"{where}: not a listing of a package: {error}"
        raise SemError(message, "publish it again") from error
    return check_listing(value, where)


def check_listing(value: Any, where: str) -> Listing:
    """Return `value` as a listing.

    Raise SemError where it breaks the schema, or names a file that cannot lie in one folder.
    """
    problems = schema.schema_problems(value, SCHEMA)
    names = set(value["files"]) if not problems else set()
    for name in sorted(names):
        parents = {name[:place] for place, letter in enumerate(name) if letter == "/"}
        if not files.is_path_below(name) or parents & names:
            problems.append(f"files: {name!r} is no path of a package's file")
    if problems:
        raise SemError(
            f"{where}: not a listing of a package: {problems[0]}",
            "do not use it: publish it again",
        )
    return Listing(**{key: value[key] for key in value if key != "format"})
