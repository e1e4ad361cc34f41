"""clean.jsonl and rejects.jsonl without rows that were taken down, and clean.json to match.

Every other line stays byte for byte, except that a near-duplicate whose cluster was named after an
erased row is named after the first row that is left.
"""

from collections import Counter
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.project import Project
from sem.dataset.clean import clean


def clean_set_sha256(project: Project) -> str | None:
    """Return the hash of clean.jsonl, None before the first cleaning."""
    path = project.processed / clean.NAME
    return files.sha256_file(path) if path.exists() else None


def drop_clean_rows(
    project: Project, names: Set[str], store_before: str | None, clean_before: str | None
) -> int:
    """Take the rows `names` out of the clean set; how many went.

    clean.json keeps saying that it is the cleaning of the store when it said so of the store with
    the hash `store_before`. `clean_before` tells a clean set that a killed takedown had filtered
    from one that was changed by hand: that one loses its clean.json, and has to be made anew.
    """
    folder = project.processed
    path, facts_path = folder / clean.NAME, folder / clean.FACTS
    with files.lock_file(folder / ".clean.lock", str(path)):
        files.remove_temporary_files(folder, clean.TEMPORARY)
        facts = (
            state.read_state_file(facts_path, state.CleanFacts) if facts_path.exists() else None
        )
        is_whole = facts is not None and facts["sha256"] in (
            clean_set_sha256(project),
            clean_before,
        )
        count = _filter(path, names) + _filter(folder / clean.REJECTS, names)
        if facts is None or not is_whole:
            facts_path.unlink(missing_ok=True)
            return count
        if facts["store_sha256"] == store_before and project.store.exists():
            facts["store_sha256"] = files.sha256_file(project.store)
        clean_counts, reject_counts = (
            _reasons(folder / name) for name in (clean.NAME, clean.REJECTS)
        )
        facts["sha256"] = clean_set_sha256(project) or ""
        facts["rows"] = clean_counts.total()
        facts["read"] = clean_counts.total() + reject_counts.total()
        facts["rejected"] = dict(sorted(reject_counts.items()))
        files.write_file(facts_path, jsonio.pretty_json(facts))
    return count


def _filter(path: Path, names: Set[str]) -> int:
    if not path.exists():
        return 0
    near, count = find_new_cluster_heads([path], names), 0
    with path.open("rb") as old, files.open_atomic_file(path) as new:
        for line, row in zip(old, files.read_rows(path), strict=True):
            if row.get("id") in names:
                count += 1
            else:
                new.write(relink_cluster(row, line, near))
    return count


def find_new_cluster_heads(paths: Iterable[Path], names: Set[str]) -> dict[str, str]:
    """From an erased id that names a near-duplicate cluster to the first id of it that is left."""
    new_heads: dict[str, str] = {}
    for path in paths:
        for row in state.read_state_rows(path, state.ExampleRow):
            head = str((row.get("meta") or {}).get("near") or "")
            if head in names and row["id"] not in names:
                new_heads[head] = min(new_heads.get(head, row["id"]), row["id"])
    return new_heads


def relink_cluster(row: dict[str, Any], line: bytes, near: dict[str, str]) -> bytes:
    """Return `line`, which holds `row`.

    It is written again only when its cluster has a new name.
    """
    head = (row.get("meta") or {}).get("near")
    if head not in near:
        return line
    row["meta"]["near"] = near[head]
    return (jsonio.canonical_json(row) + "\n").encode("utf-8")


def _reasons(path: Path) -> Counter[str]:
    rows = files.read_rows(path) if path.exists() else ()
    return Counter(str(row.get("reason") or "kept") for row in rows)
