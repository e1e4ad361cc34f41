"""Which cleaned rows stay: one per id, one per content, none that contradicts another.

Exact, by digest: memory grows by some 200 bytes a row, not by pages. Rows come in any order;
what is decided depends on their ids and contents alone.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from sem.core import jsonio
from sem.core.example import Example

OWN = "own"  # the row was refused before it came here; its reject says why


@dataclass(frozen=True, slots=True)
class Entry:
    """One row's place in the spill, and digests of the stored row, its input and its answer."""

    id: str
    row: bytes
    offset: int
    key: bytes = b""  # empty for a row that is refused already
    answer: bytes = b""


def verdicts(entries: Iterable[Entry], conflicts: str) -> Iterator[tuple[Entry, str | None]]:
    """Every entry in order of id, with the reason to refuse it or None.

    Equal inputs with different answers are all refused when CONFLICTS is 'reject'.
    """
    ordered = list(_one_per_id(sorted(entries, key=lambda e: (e.id, e.row, e.offset))))
    seen: set[bytes] = set()
    contradicted = contradictions(e for e, reason in ordered if reason is None)
    for entry, reason in ordered:
        both = entry.key + entry.answer
        if reason is not None:
            yield entry, reason
        elif both in seen:
            yield entry, "duplicate"
        else:
            seen.add(both)
            refused = conflicts == "reject" and entry.key in contradicted
            yield entry, "conflict" if refused else None


def contradictions(entries: Iterable[Entry]) -> set[bytes]:
    """The inputs that have more than one answer."""
    first: dict[bytes, bytes] = {}
    return {e.key for e in entries if first.setdefault(e.key, e.answer) != e.answer}


def _one_per_id(ordered: list[Entry]) -> Iterator[tuple[Entry, str | None]]:
    """Equal rows under one id count once, different ones not at all."""
    for name, group in groupby(ordered, key=lambda e: e.id):
        same = list(group)
        is_clear = not name or all(entry.row == same[0].row for entry in same)
        for number, entry in enumerate(same):
            if not is_clear:
                yield entry, "duplicate_id"
            elif name and number:
                yield entry, "row_twice"
            else:
                yield entry, None if entry.key else OWN


def entry(name: str, row: object, offset: int, example: Example | None) -> Entry:
    """The Entry of the stored ROW called NAME, and of the EXAMPLE it became, if it did."""
    if example is None:
        return Entry(name, digest(repr(row)), offset)
    key = digest(jsonio.dumps([example.task, example.input_text]))
    return Entry(name, digest(repr(row)), offset, key, digest(jsonio.dumps(example.output_json)))


def digest(text: str) -> bytes:
    """16 bytes that stand for TEXT."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
