"""The leakage certificate of a snapshot: what its parts have in common, read from their files.

Nothing that the cut decided is trusted: near-duplicates are looked for again, over the final
texts, and every key is computed anew. Counting is SQLite's, so memory does not grow with rows.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.files import SqliteHolds, sqlite_faults
from sem.dataset.clean import dedupe, near_duplicates
from sem.dataset.config import Leaks

# What ties two examples together, so that one on each side of a split would be a leak.

KINDS = ("exact", "near", "source", "site", "domain", "template", "answer")


def leak_keys(example: Example) -> dict[str, str]:
    """Return for each of KINDS what `example` shares with the examples it is tied to.

    A kind is absent where nothing is shared.
    """
    keys = {
        "exact": dedupe.digest_text(example.input_text).hex(),
        "near": str(example.meta.get("near") or ""),
        "source": example.source_id or "",
        "site": example.site,
        "domain": example.domain,
        "template": str(example.meta.get("template") or ""),
        "answer": dedupe.answer_key(example).hex(),
    }
    return {kind: key for kind, key in keys.items() if key}


def ties_to_repair(example: Example, leaks: Leaks) -> tuple[str, ...]:
    """Return the ties of `example` that `leaks` wants repaired: what shares one moves together."""
    return tuple(
        f"{kind}:{key}"
        for kind, key in leak_keys(example).items()
        if getattr(leaks, kind) == "repair"
    )


PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))
COLUMNS = ("in common", *(f"{a}∩{b}" for a, b in PAIRS))
# Offending pairs of ids that are listed for each count.
SHOWN = 5
FILE = ".tmp-certificate"
TIES = SqliteHolds("temporary file", "free space, then run again")
NAMES = {
    "exact": "the same input",
    "near": "near-duplicates",
    "source": "a source document",
    "site": "a registered name, under whatever TLD",
    "domain": "a registered domain",
    "template": "a page template",
    "answer": "the same reference",
}
COUNTS = """
SELECT kind, count(*), sum(there) FROM (
  SELECT kind, key, sum(part = :b) AS there, sum(part = :a) AS here FROM ties GROUP BY kind, key
) WHERE here > 0 AND there > 0 GROUP BY kind
"""
FIRST = """
SELECT min(CASE part WHEN :a THEN id END), min(CASE part WHEN :b THEN id END), key
FROM ties WHERE kind = :kind GROUP BY key
HAVING sum(part = :a) > 0 AND sum(part = :b) > 0 ORDER BY 1, 2 LIMIT :shown
"""


def certify_leakage(paths: dict[str, Path], threshold: float, work: Path) -> dict[str, Any]:
    """Return what the parts in `paths` share, by kind and pair of parts, with the first offending
    pairs.

    Of each pair: `keys` (how many things are shared), `rows` (of the second part that share one)
    and `pairs` ([id, id, what]). Near means a chain of pairs whose Jaccard index of 5-grams is
    at least `threshold`. `work` is a folder for a temporary file.
    """
    facts: dict[str, Any] = {
        "version": 1,
        "near_threshold": threshold,
        "near_method": "MinHash {}x{} of 5-grams, Jaccard exact".format(
            *near_duplicates.choose_band_shape(threshold)
        ),
        "rows": {},
        "shared": {},
    }
    path = work / FILE
    path.unlink(missing_ok=True)
    try:
        with sqlite_faults(path, TIES), closing(sqlite3.connect(path)) as table:
            table.executescript(
                "PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA temp_store = file;"
                "CREATE TABLE ties (kind TEXT, key TEXT, part TEXT, id TEXT);"
            )
            places = _Places(paths, threshold)
            table.executemany("INSERT INTO ties VALUES (?, ?, ?, ?)", places.ties())
            table.executemany("INSERT INTO ties VALUES (?, ?, ?, ?)", places.near())
            facts["rows"] = places.rows
            for a, b in PAIRS:
                facts["shared"][f"{a}∩{b}"] = _shared(table, a, b)
    finally:
        path.unlink(missing_ok=True)
    return facts


def _shared(table: sqlite3.Connection, a: str, b: str) -> dict[str, Any]:
    counts = {kind: (keys, rows) for kind, keys, rows in table.execute(COUNTS, {"a": a, "b": b})}
    shared = {}
    for kind in KINDS:
        keys, rows = counts.get(kind, (0, 0))
        query = {"a": a, "b": b, "kind": kind, "shown": SHOWN}
        pairs = [list(pair) for pair in table.execute(FIRST, query)] if keys else []
        shared[kind] = {"keys": keys, "rows": rows, "pairs": pairs}
    return shared


class _Places:
    """Where every row is, and its near-duplicate keys, as one pass over the files finds them."""

    def __init__(self, paths: dict[str, Path], threshold: float) -> None:
        self._threshold = threshold
        self.rows = dict.fromkeys(paths, 0)
        self._paths = paths
        self._places: list[tuple[str, int, str]] = []  # part, offset, id
        self._keys = bytearray()

    def ties(self) -> Iterable[tuple[str, str, str, str]]:
        """Yield every tie of every row; `near` comes later."""
        for part, path in self._paths.items():
            offset = 0
            with path.open("rb") as file:
                for line in file:
                    example = Example(**jsonio.parse_json(line.decode("utf-8")))
                    self.rows[part] += 1
                    self._places.append((part, offset, example.id))
                    self._keys += near_duplicates.sketch_texts(
                        [example.input_text], self._threshold
                    ).tobytes()
                    offset += len(line)
                    for kind, key in leak_keys(example).items():
                        if kind != "near":
                            yield kind, key, part, example.id

    def near(self) -> Iterable[tuple[str, str, str, str]]:
        """Yield the ties between near-duplicates."""
        import numpy as np

        # In order of id, as cleaning looks for them: which pairs are compared depends on it.
        order = sorted(range(len(self._places)), key=lambda n: self._places[n][2])
        self._places = [self._places[n] for n in order]
        keys = np.frombuffer(bytes(self._keys), "<u8").reshape(len(order), -1)[order]
        with _Texts(self._paths) as texts:
            clusters = near_duplicates.cluster_near_duplicates(
                keys, lambda n: texts.at(*self._places[n][:2]), self._threshold
            )
        for head, rows in clusters.members().items():
            for row in rows:
                part, _, name = self._places[row]
                yield "near", self._places[head][2], part, name


class _Texts:
    """The parts' files, opened for reading single rows."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self._files = {part: path.open("rb") for part, path in paths.items()}

    def __enter__(self) -> "_Texts":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def at(self, part: str, offset: int) -> str:
        """Return the input of the row of `part` that starts at `offset`."""
        self._files[part].seek(offset)
        return str(jsonio.parse_json(self._files[part].readline().decode("utf-8"))["input_text"])


def count_shared_keys(
    paths: dict[str, Path], groups: dict[str, set[str]]
) -> dict[str, dict[str, int]]:
    """Return how many ids, domains and groups each pair of parts has in common, read from the
    files.
    """
    members: dict[str, dict[str, set[str]]] = {"groups": groups, "ids": {}, "domains": {}}
    for part, path in paths.items():
        rows = [(row["id"], row["meta"].get("domain") or "") for row in files.read_rows(path)]
        members["ids"][part] = {name for name, _ in rows}
        members["domains"][part] = {domain for _, domain in rows if domain}
    return {
        kind: {f"{a}∩{b}": len(names[a] & names[b]) for a, b in PAIRS}
        for kind, names in sorted(members.items())
    }


def enforce_certificate(facts: dict[str, Any], leaks: Leaks) -> None:
    """Raise SemError when the certificate `facts` holds what `leaks` refuses, or says was
    repaired.
    """
    for between, kinds in facts["shared"].items():
        for kind, counted in kinds.items():
            if counted["keys"] and getattr(leaks, kind) != "report":
                a, b, _ = counted["pairs"][0]
                raise SemError(
                    f"{between} share {NAMES[kind]}: {counted['keys']} times, as {a!r} and {b!r}",
                    f"set split.leaks.{kind} to repair, or to report if it is not a leak here",
                )


def certificate_table(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of COLUMNS for the snapshot `facts`.

    How many things are shared, in how many rows.
    """
    shared = facts["certificate"]["shared"]
    return [(NAMES[kind], *(_cell(shared[f"{a}∩{b}"][kind]) for a, b in PAIRS)) for kind in KINDS]


def _cell(counted: dict[str, Any]) -> str:
    return f"{counted['keys']} ({counted['rows']} rows)" if counted["keys"] else "0"
