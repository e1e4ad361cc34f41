"""Tombstones: what was taken down and may not come back, without a word of what it was.

`data/SEM/governance/tombstones.jsonl` holds keyed digests only; the key is the file `salt` beside
it. A row is refused when its id, its content, its page, its source, one of its domains or a person
it names has a stone.
"""

import hmac
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import console, files, state
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset.personal import person
from sem.dataset.store import row_marks
from sem.dataset.store.examples_table import RawRow
from sem.dataset.store.row_marks import Marks
from sem.dataset.store.rows import Reject

NAME, SALT = "tombstones.jsonl", "salt"
SALT_BYTES = 32
REASON = "taken_down"
KINDS = ("id", "content", "page", "source", "domain", "person")


@dataclass(frozen=True)
class Tombstones:
    """Everything that was taken down, as keyed digests by kind."""

    salt: bytes = b""
    digests: dict[str, frozenset[str]] = field(default_factory=dict)
    # Form and number of words of each person.
    people: frozenset[tuple[str, int]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.digests)

    def digest(self, kind: str, text: str) -> str:
        """Return what stands for `text` of `kind`: 128 bits of HMAC-SHA256."""
        mac = hmac.new(self.salt, f"{kind}\0{text}".encode("utf-8", "surrogatepass"), "sha256")
        return mac.hexdigest()[:32]

    def has(self, kind: str, text: str | None) -> bool:
        """Return whether `text` of `kind` has a stone."""
        digests = self.digests.get(kind)
        return bool(digests and text is not None and self.digest(kind, text) in digests)

    def holds(self, row: Marks) -> str | None:
        """Return the kind of stone that `row` lies under, None when it may stay."""
        if self.has("id", row.id):
            return "id"
        for kind in ("content", "page"):
            # Folding a page takes its time: not where nothing of that kind was taken down.
            if kind in self.digests and self.has(kind, getattr(row, kind)):
                return kind
        if self.has("source", row.source):
            return "source"
        if any(self.has("domain", domain) for domain in row.domains):
            return "domain"
        return "person" if self.people and self._names(row) else None

    def refuse(self, row: RawRow) -> None:
        """Reject when `row` was taken down."""
        if self and (kind := self.holds(row_marks.of_raw(row))):
            raise Reject(REASON, kind)

    def as_json(self) -> dict[str, Any]:
        """These stones as plain JSON, for a worker elsewhere; empty when there are none."""
        if not self:
            return {}
        digests = {kind: sorted(values) for kind, values in sorted(self.digests.items())}
        return {"salt": self.salt.hex(), "digests": digests, "people": sorted(self.people)}

    def _names(self, row: Marks) -> bool:
        return any(
            self.has("person", f"{form} {key}")
            for form, count in sorted(self.people)
            for text in row.texts
            for key in set(person.person_keys_in_text(text, form, count))
        )


def stones_of_json(value: dict[str, Any]) -> Tombstones:
    """Return the Stones that `value`, their as_json(), describes."""
    if not value:
        return Tombstones()
    digests = {kind: frozenset(values) for kind, values in value["digests"].items()}
    people = frozenset((form, int(words)) for form, words in value["people"])
    return Tombstones(bytes.fromhex(value["salt"]), digests, people)


def governance_folder(project: Project) -> Path:
    """Return where `project`'s tombstones and the journal of takedowns are."""
    return project.root / "data" / project.sem / "governance"


def load_tombstones(project: Project) -> Tombstones:
    """`project`'s tombstones.

    Raise SemError when they cannot be compared because the salt is gone.
    """
    path, key = governance_folder(project) / NAME, governance_folder(project) / SALT
    if not path.exists():
        return Tombstones()
    if not key.exists():
        raise SemError(
            f"{key}: no such file: Sem can no longer tell what was taken down",
            "restore it from a backup: without it nothing may be imported",
        )
    digests: dict[str, set[str]] = defaultdict(set)
    people = set()
    for number, row in enumerate(state.read_state_rows(path, state.Tombstone), 1):
        digests[row["kind"]].add(row["digest"])
        if row["kind"] == "person":
            stone = state.check_state(row, state.PersonStone, f"{path}:{number}")
            people.add((stone["form"], stone["words"]))
    frozen = {kind: frozenset(values) for kind, values in digests.items()}
    return Tombstones(_salt(key), frozen, frozenset(people))


def _salt(path: Path) -> bytes:
    # With half a salt no digest matches, and everything that was taken down may come back.
    text = files.read_text(path).strip()
    if not re.fullmatch(rf"[0-9a-f]{{{2 * SALT_BYTES}}}", text):
        raise SemError(
            f"{path}: damaged: not {SALT_BYTES} bytes in hexadecimal: what was taken down can no "
            "longer be told",
            "restore it from a backup: without it nothing may be imported",
        )
    return bytes.fromhex(text)


def load_salted_tombstones(project: Project) -> Tombstones:
    """`project`'s tombstones with a salt, which is made when there is none yet."""
    path = governance_folder(project) / SALT
    if not path.exists() and not (governance_folder(project) / NAME).exists():
        with files.open_atomic_file(path, 0o600) as file:
            file.write(secrets.token_hex(SALT_BYTES).encode())
    stones = load_tombstones(project)
    return stones if stones else Tombstones(_salt(path))


def add_tombstones(project: Project, stones: Iterable[dict[str, Any]]) -> int:
    """Write `stones` (kind, digest, takedown, at, reason) that are not there yet; how many."""
    digests = load_tombstones(project).digests
    added = 0
    with files.open_for_append(governance_folder(project) / NAME) as file:
        for stone in stones:
            if stone["digest"] not in digests.get(stone["kind"], ()):
                files.append_row(file, stone)
                added += 1
    return added


def drop_taken_down(
    project: Project, rows: Iterable[RawRow], refuse: Callable[[str, str], None]
) -> Iterator[RawRow]:
    """Yield those of `rows` that were not taken down.

    Each other one goes to `refuse` by its id.
    """
    stones = load_tombstones(project)
    for row in rows:
        if stones and stones.holds(row_marks.of_raw(row)):
            refuse(row.id or "", REASON)
        else:
            yield row


def filter_remaining_ids(project: Project, names: Iterable[str]) -> list[str]:
    """Return those of the ids `names` that were not taken down."""
    stones = load_tombstones(project)
    return [name for name in names if not stones.has("id", name)]


def filter_remaining_examples(
    project: Project, examples: Iterable[Example], where: str
) -> list[Example]:
    """Return those of `examples`, read from `where`, that were not taken down.

    The others are named.
    """
    stones = load_tombstones(project)
    rest = []
    for example in examples:
        if stones and stones.holds(row_marks.marks_of_json(example.as_json())):
            console.print_note(f"{where}: {example.id}: {REASON}, left out")
        else:
            rest.append(example)
    return rest
