"""The store to clean.jsonl: checked references, simplified pages, no personal data that policy
forbids, no exact duplicates, near-duplicates marked.

Every row that does not make it is a row of rejects.jsonl with a reason. Rows are read as they
are stored, spilled, and written in order of id. Files are replaced whole, clean.json last: a
killed run leaves the old set, and the next one writes the same bytes.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.example import Example, from_json
from sem.core.project import Project
from sem.dataset.clean import (
    dedupe,
    engine,
    evidence,
    grounding,
    near_duplicates,
    ray_engine,
    validation,
)
from sem.dataset.clean.engine import Engine, RowRecord
from sem.dataset.clean.row_cleaning import CleaningPlan
from sem.dataset.clean.tally import CleaningTally
from sem.dataset.config import Clean, Dataset
from sem.dataset.html import markup
from sem.dataset.personal import pii
from sem.dataset.store import store, tombstones

NAME = "clean.jsonl"
REJECTS = "rejects.jsonl"
# Written last: without it, or with another hash in it, cleaning is undone.
FACTS = "clean.json"
REPORT = "dataset_validation.md"
SPILL = ".tmp-spill"
SKETCHES = ".tmp-sketches"
INDEX = ".tmp-index"
# What a cleaning writes beside its results, under the lock of the clean set.
TEMPORARY = (f"{SPILL}*", f"{SKETCHES}*", f"{INDEX}*", ".tmp-clean.*", ".tmp-rejects.*")
NEAR = "near_duplicate"


@dataclass(frozen=True)
class CleaningOptions:
    """Where the work runs and what it may use besides the settings."""

    engine: Engine = "local"
    # Of a Ray cluster; None starts one on this machine.
    address: str | None = None
    # a tokenizer.json, for counts and budgets in tokens.
    tokenizer: str | None = None
    today: str = ""  # YYYY-MM-DD


@dataclass(frozen=True)
class Cleaned:
    """Where the result is, and its counts."""

    path: Path
    report: Path
    tally: CleaningTally


@dataclass
class Ordered:
    """Every row in order of id: where it is in the spill, its number, why it is refused."""

    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    reasons: "array[int]" = field(default_factory=lambda: array("b"))  # places in REASONS
    # Place -> id of its cluster's first row.
    near: dict[int, str] = field(default_factory=dict)
    details: dict[int, str] = field(
        default_factory=dict
    )  # place -> why, where a word is not enough


REASONS = (None, dedupe.OWN, "duplicate_id", "row_twice", "duplicate", "conflict", NEAR)


def clean_store(
    project: Project,
    how: CleaningOptions | None = None,
    progress: Callable[[Any, int], Any] | None = None,
) -> Cleaned:
    """Clean `project`'s store; raise SemError when the store cannot be used or nothing is left."""
    how = how or CleaningOptions()
    settings = project.settings("dataset", Dataset).clean
    _check_options(settings, project, how)
    folder, tally = project.processed, CleaningTally()
    with files.lock_file(folder / ".clean.lock", str(folder / NAME)):
        files.remove_temporary_files(folder, TEMPORARY)
        with store.open_store(project.store) as opened, dedupe.SpillIndex(folder / INDEX) as index:
            source = files.sha256_file(project.store)
            share = settings.evidence_rows / opened.count
            stones = tombstones.load_tombstones(project).as_json()
            plan = CleaningPlan(settings, project.tasks, share, how.tokenizer, how.today, stones)
            records = _records(opened.rows(), plan, how)
            stream = progress(records, opened.count) if progress else records
            _spill(folder, stream, index, tally, settings)
            ordered = _ordered(folder, index, settings)
        _mark_near(folder, ordered, settings, tally)
        _settle(folder, ordered, tally)
        for name in (SPILL, SKETCHES):
            (folder / name).unlink()
        return _publish(project, settings, tally, source)


def _records(raw: Iterable[Any], plan: CleaningPlan, how: CleaningOptions) -> Iterator[RowRecord]:
    if how.engine == "ray":
        return ray_engine.run_on_ray(raw, plan, how.address)
    return engine.clean_rows_locally(raw, plan)


def _check_options(settings: Clean, project: Project, how: CleaningOptions) -> None:
    for name in settings.tasks:
        if name not in project.tasks:
            raise SemError(
                f"{project.configs / 'dataset.yaml'}: clean.tasks names {name!r}, "
                "which has no TaskSpec",
                suggest_nearest_name(name, project.tasks),
            )
    where = f"{project.configs / 'dataset.yaml'}: clean"
    schemas = {name: spec.io_schema for name, spec in project.tasks.items()}
    pii.check_pii_policy(settings.pii, schemas.values(), where)
    evidence.check_evidence_options(settings.default, schemas.values(), f"{where}.default")
    for name in settings.tasks:
        evidence.check_evidence_options(
            settings.of(name), [schemas[name]], f"{where}.tasks.{name}"
        )
    if how.tokenizer is None and settings.counts_tokens:
        raise SemError(
            f"{project.configs / 'dataset.yaml'}: max_tokens needs the base model's tokenizer",
            "fetch it with `fab env.weights`, or give max_chars instead",
        )


def _spill(
    folder: Path,
    records: Iterable[RowRecord],
    index: dedupe.SpillIndex,
    tally: CleaningTally,
    settings: Clean,
) -> None:
    """Write each row in arrival order.

    `index` takes its place in the file and what decides about it.
    """
    offset, blank = 0, near_duplicates.empty_sketch(settings.near.threshold)
    with (folder / SPILL).open("wb") as spill, (folder / SKETCHES).open("wb") as keys:
        for record in records:
            outcome = record.made
            line = outcome.line or jsonio.canonical_json(_rejected(record))
            tally.page(outcome)
            index.add(
                dedupe.SpillEntry(
                    record.id,
                    record.row,
                    offset,
                    bytes.fromhex(outcome.key),
                    bytes.fromhex(outcome.answer),
                )
            )
            offset += spill.write((line + "\n").encode("utf-8"))
            keys.write(bytes.fromhex(outcome.sketch) or blank)


def _rejected(record: RowRecord) -> dict[str, Any]:
    outcome = record.made
    return {
        "id": record.id or None,
        "task": record.task,
        "reason": outcome.reason,
        "detail": outcome.detail,
    }


def _ordered(folder: Path, index: dedupe.SpillIndex, settings: Clean) -> Ordered:
    ordered = Ordered()
    with (folder / SPILL).open("rb") as spill:

        def absent(entry: dedupe.SpillEntry) -> int:
            return _absent(_row(_line(spill, entry.offset)))

        for entry, reason, detail in index.verdicts(settings.conflicts, absent):
            if detail:
                ordered.details[len(ordered.offsets)] = detail
            ordered.offsets.append(entry.offset)
            ordered.numbers.append(entry.number)
            ordered.reasons.append(REASONS.index(reason))
    return ordered


def _absent(row: dict[str, Any]) -> int:
    """Return how many values of the row's reference its input does not hold."""
    text = grounding.SearchableText(row["input_text"])
    return sum(
        not grounding.is_grounded(value, text)
        for _, value in grounding.scalar_leaves(row["output_json"])
    )


def _mark_near(folder: Path, ordered: Ordered, settings: Clean, tally: CleaningTally) -> None:
    """Name the near-duplicate cluster of every row that stays and has one; drop by policy."""
    import numpy as np

    places = [place for place, reason in enumerate(ordered.reasons) if not reason]
    if not places:
        return
    packed = np.memmap(folder / SKETCHES, "<u8", "r")
    keys = packed.reshape(-1, near_duplicates.sketch_words(settings.near.threshold))
    numbers = np.frombuffer(ordered.numbers, np.int64)[places]
    with (folder / SPILL).open("rb") as spill:

        def row_at(row: int) -> dict[str, Any]:
            return _row(_line(spill, ordered.offsets[places[row]]))

        clusters = near_duplicates.cluster_near_duplicates(
            keys, lambda row: row_at(row)["input_text"], settings.near.threshold, numbers
        )
        members = clusters.members()
        for head, cluster in members.items():
            name, answers = row_at(head)["id"], set()
            for row in cluster:
                ordered.near[places[row]] = name
                if settings.near.drop == "same_answer":
                    example = row_at(row)
                    key = jsonio.canonical_json([example["task"], example["output_json"]])
                    if key in answers:
                        ordered.reasons[places[row]] = REASONS.index(NEAR)
                    answers.add(key)
    tally.near = {
        "clusters": len(members),
        "rows": sum(map(len, members.values())),
        "largest": max(map(len, members.values()), default=0),
        "compared_pairs": clusters.compared,
        "skipped_pairs": clusters.skipped,
    }


def _line(spill: IO[bytes], offset: int) -> bytes:
    spill.seek(offset)
    return spill.readline()


def _row(line: bytes) -> dict[str, Any]:
    return jsonio.parse_json(line.decode("utf-8"))


def _settle(folder: Path, ordered: Ordered, tally: CleaningTally) -> None:
    """Write the rows that stay and the rejects, both in order of id."""
    with (
        (folder / SPILL).open("rb") as spill,
        files.open_atomic_file(folder / REJECTS) as rejects_file,
        files.open_atomic_file(folder / NAME) as clean_file,
    ):
        for place, offset in enumerate(ordered.offsets):
            line, reason = _line(spill, offset), REASONS[ordered.reasons[place]]
            row = _row(line)
            if reason is None:
                tally.keep(row["task"])
                if place in ordered.near:
                    row["meta"]["near"] = ordered.near[place]
                    line = (jsonio.canonical_json(row) + "\n").encode("utf-8")
                clean_file.write(line)
                continue
            if reason != dedupe.OWN:
                near = f"near {ordered.near[place]}" if reason == NEAR else ""
                detail = ordered.details.get(place, near)
                row = {"id": row["id"], "task": row["task"], "reason": reason, "detail": detail}
            tally.refuse(row["reason"], row["id"] or "")
            rejects_file.write((jsonio.canonical_json(row) + "\n").encode("utf-8"))


def _publish(project: Project, settings: Clean, tally: CleaningTally, source: str) -> Cleaned:
    folder = project.processed
    cleaned_with = jsonio.parse_json(jsonio.canonical_json(asdict(settings)))
    facts = {
        "store_sha256": source,
        "cleaner": markup.FINGERPRINT,
        "settings": cleaned_with,
        "settings_sha256": files.sha256_json(cleaned_with),
        "tasks": {name: spec.fingerprint() for name, spec in sorted(project.tasks.items())},
        "sha256": files.sha256_file(folder / NAME),
        "rows": tally.kept,
        "read": tally.read,
        "rejected": dict(sorted(tally.reasons.items())),
        "near": {"threshold": settings.near.threshold, **tally.near},
        "pii": tally.pii,
    }
    report = files.write_file(
        project.reports / REPORT, validation.render_validation_report(project.sem, tally, facts)
    )
    files.write_file(folder / FACTS, jsonio.pretty_json(facts))
    if not tally.kept:
        raise SemError(
            f"{project.store}: none of {tally.read:,} rows can be used",
            f"the reasons are in {report}",
        )
    return Cleaned(folder / NAME, report, tally)


def read_clean_examples(project: Project) -> Iterator[Example]:
    """Yield the cleaned rows in order of id."""
    path = project.processed / NAME
    for number, row in enumerate(files.read_rows(path), 1):
        yield from_json(row, f"{path}:{number}")


def read_clean_facts(project: Project) -> state.CleanFacts:
    """clean.json, after its hash was compared with clean.jsonl."""
    path = project.processed / FACTS
    if not path.exists():
        raise SemError(f"{path}: no such file", "run `fab dataset.clean` first")
    facts = state.read_state_file(path, state.CleanFacts)
    digest = files.sha256_file(project.processed / NAME)
    if digest != facts["sha256"]:
        raise SemError(
            f"{project.processed / NAME} is {digest[:12]}…, {FACTS} says {facts['sha256'][:12]}…",
            "run `fab dataset.clean` again",
        )
    return facts
