"""The store to clean.jsonl: checked references, simplified pages, no exact duplicates.

Every row that does not make it is a row of rejects.jsonl with a reason. Files are replaced
whole, clean.json last: a killed run leaves the old set, and the next one writes the same bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, nearest
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset import dedupe, guard, markup, rows, store, validation
from sem.dataset.config import Clean, Dataset
from sem.dataset.layout import RawRow

NAME = "clean.jsonl"
REJECTS = "rejects.jsonl"
FACTS = "clean.json"  # written last: without it, or with another hash in it, cleaning is undone
REPORT = "dataset_validation.md"
CANDIDATES = ".tmp-candidates"
REFUSED = ".tmp-rejects"
SAMPLES = 200
SAMPLED = 0.25


@dataclass
class Tally:
    """Counts that the report shows."""

    read: int = 0
    kept: int = 0
    tasks: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    first_ids: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    survival: dict[str, list[int]] = field(default_factory=dict)
    samples: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Cleaned:
    """Where the result is, and its counts."""

    path: Path
    report: Path
    tally: Tally


def run(
    project: Project,
    count_tokens: Callable[[str], int] | None = None,
    progress: Callable[[Any, int], Any] | None = None,
) -> Cleaned:
    """Clean PROJECT's store; SemError when the store cannot be used or nothing is left."""
    settings = project.settings("dataset", Dataset).clean
    _check_options(settings, project)
    folder = project.processed
    with files.lock(folder / ".clean.lock", str(folder / NAME)):
        files.sweep(folder)
        source = files.sha256(project.store) if project.store.is_file() else ""
        with store.reading(project.store) as opened:
            tally = _clean(project, settings, opened, progress)
        return _publish(project, settings, tally, source, count_tokens)


def _check_options(settings: Clean, project: Project) -> None:
    for name in settings.tasks:
        if name not in project.tasks:
            raise SemError(
                f"{project.configs / 'dataset.yaml'}: clean.tasks names {name!r}, "
                "which has no TaskSpec",
                nearest(name, project.tasks),
            )


def _clean(project: Project, settings: Clean, opened: store.Store, progress: Any) -> Tally:
    """Write candidates and rejects beside their final places; what happened, in counts."""
    tally, seen = Tally(), dedupe.Seen()
    folder = project.processed
    folder.mkdir(parents=True, exist_ok=True)
    raw = progress(opened.rows(), opened.count) if progress else opened.rows()
    with (
        guard.Pool(settings) as pool,
        (folder / CANDIDATES).open("wb") as candidates,
        (folder / REFUSED).open("wb") as refused,
    ):
        share = settings.evidence_rows / opened.count
        for item, outcome in pool.map(_jobs(raw, project, settings, tally, share)):
            try:
                example = _finish(item, outcome, seen, tally)
            except rows.Reject as reject:
                _refuse(refused, tally, item, reject)
            else:
                _write(candidates, example.as_json())
    _settle(folder, settings, seen, tally)
    return tally


def _jobs(
    raw: Iterator[RawRow], project: Project, settings: Clean, tally: Tally, share: float
) -> Iterator[tuple[Any, guard.Job | None]]:
    for row, fault in _one_per_id(raw):
        tally.read += 1
        try:
            if fault:
                raise fault
            made = rows.prepare(row, project.tasks, settings)
        except rows.Reject as reject:
            yield (row, reject), None
            continue
        budget = made.options.max_chars
        left = None if budget is None else max(0, budget - len(made.before) - 1)
        _sample(tally, row)
        measured = made.reference if _lot(row.id) < share else None
        yield made, guard.Job(made.page, made.options, left, measured)


def _lot(name: str | None) -> float:
    """A number from 0 to 1 that NAME alone decides."""
    return int(files.sha256_text(name or "")[:8], 16) / (1 << 32)


def _one_per_id(raw: Iterator[RawRow]) -> Iterator[tuple[RawRow, rows.Reject | None]]:
    """Rows with the reject that sharing an id earns: equal rows count once, others not at all."""
    for name, group in groupby(raw, key=lambda row: row.id):
        same = list(group)
        if len(same) == 1 or name is None:
            yield from ((row, None) for row in same)
        elif all(row == same[0] for row in same):
            yield same[0], None
            yield from ((row, rows.Reject("row_twice")) for row in same[1:])
        else:
            yield from ((row, rows.Reject("duplicate_id")) for row in same)


def _finish(item: Any, outcome: Any, seen: dedupe.Seen, tally: Tally) -> Example:
    if isinstance(item, tuple):
        raise item[1]
    if outcome.reason:
        raise rows.Reject(outcome.reason)
    if len(outcome.text) < max(1, item.options.min_chars):
        raise rows.Reject("empty_input", f"{len(outcome.text)} characters after cleaning")
    parts = (item.before, outcome.text)
    example = Example(
        id=item.id,
        task=item.spec.task_id,
        input_text="\n".join(part for part in parts if part),
        output_json=item.reference,
        meta={
            **item.meta,
            "language": rows.language(item.meta, outcome.language),
            "chars_before": len(item.page),
            "chars_after": len(outcome.text),
        },
        system_prompt=item.system_prompt,
        slot_specs=item.slot_specs,
        source_id=item.source_id,
        negative_examples=_negatives(item.meta),
    )
    if seen.is_repeat(example):
        raise rows.Reject("duplicate")
    _count(tally, item, outcome)
    return example


def _negatives(meta: dict[str, Any]) -> list[Any] | None:
    value = meta.get("negative_examples")
    return value if isinstance(value, list) else None


def _count(tally: Tally, item: rows.Prepared, outcome: guard.Outcome) -> None:
    task = tally.tasks.setdefault(item.spec.task_id, {"kept": 0, "pages": 0})
    task["pages"] += 1
    for name, number in (outcome.report or {}).items():
        task[name] = task.get(name, 0) + number
    for note in item.notes:
        tally.notes[note] = tally.notes.get(note, 0) + 1
    labels = _labels(item.spec.io_schema)
    for slot, counts in (outcome.survival or {}).items():
        if slot in labels:
            continue
        total = tally.survival.setdefault(f"{item.spec.task_id}.{slot}", [0, 0, 0, 0])
        for number, count in enumerate(counts):
            total[number] += count


def _labels(io_schema: dict[str, Any]) -> set[str]:
    """Slots whose value is chosen from a list, so that no page need spell it."""
    fields = {**io_schema.get("properties", {}), "answer": io_schema}
    closed = set()
    for name, kind in fields.items():
        inner = kind.get("items", {}) if isinstance(kind, dict) else {}
        if any(isinstance(k, dict) and ("enum" in k or "const" in k) for k in (kind, inner)):
            closed.add(name)
    return closed


def _sample(tally: Tally, row: RawRow) -> None:
    """Keep a few raw inputs, for the token figures."""
    if _lot(row.id) < SAMPLED and len(tally.samples) < SAMPLES and row.id:
        tally.samples.append((row.id, row.input_text or ""))


def _refuse(file: Any, tally: Tally, item: Any, reject: rows.Reject) -> None:
    row = item[0] if isinstance(item, tuple) else item
    task = row.spec.task_id if isinstance(row, rows.Prepared) else row.task
    tally.reasons[reject.reason] = tally.reasons.get(reject.reason, 0) + 1
    ids = tally.first_ids.setdefault(reject.reason, [])
    if len(ids) < 5:
        ids.append(str(row.id))
    detail = {"id": row.id, "task": task, "reason": reject.reason, "detail": reject.detail}
    _write(file, detail)


def _settle(folder: Path, settings: Clean, seen: dedupe.Seen, tally: Tally) -> None:
    """Move inputs with contradicting references from the candidates to the rejects."""
    drop = seen.conflicting if settings.conflicts == "reject" else set()
    tally.notes["conflicting_inputs"] = len(seen.conflicting)
    with files.replacing(folder / NAME) as kept, (folder / REFUSED).open("ab") as refused:
        for row in files.rows(folder / CANDIDATES):
            example = Example(**row)
            if drop and dedupe.input_key(example) in drop:
                reject = rows.Reject("conflict", "same input, another reference")
                _refuse(refused, tally, (RawRow(example.id, example.task), reject), reject)
            else:
                tally.kept += 1
                tally.tasks[example.task]["kept"] += 1
                _write(kept, row)
    (folder / CANDIDATES).unlink()


def _write(file: Any, value: jsonio.Json) -> None:
    file.write((jsonio.dumps(value) + "\n").encode("utf-8"))


def _publish(
    project: Project, settings: Clean, tally: Tally, source: str, count_tokens: Any
) -> Cleaned:
    folder = project.processed
    with files.replacing(folder / REJECTS) as out, (folder / REFUSED).open("rb") as refused:
        while block := refused.read(1 << 20):
            out.write(block)
    (folder / REFUSED).unlink()
    facts = {
        "store_sha256": source,
        "cleaner": markup.FINGERPRINT,
        "settings_sha256": files.sha256_json(jsonio.loads(jsonio.dumps(asdict(settings)))),
        "tasks": {name: spec.fingerprint() for name, spec in sorted(project.tasks.items())},
        "sha256": files.sha256(folder / NAME),
        "rows": tally.kept,
        "read": tally.read,
        "rejected": dict(sorted(tally.reasons.items())),
    }
    tokens = _tokens(folder / NAME, tally, count_tokens) if count_tokens else None
    report = files.write(
        project.reports / REPORT, validation.render(project.sem, tally, facts, tokens)
    )
    files.write(folder / FACTS, jsonio.pretty(facts))
    if not tally.kept:
        raise SemError(
            f"{project.store}: none of {tally.read:,} rows can be used",
            f"the reasons are in {report}",
        )
    return Cleaned(folder / NAME, report, tally)


def _tokens(path: Path, tally: Tally, count: Callable[[str], int]) -> dict[str, int]:
    wanted = {name for name, _ in tally.samples}
    cleaned = {row["id"]: row["input_text"] for row in files.rows(path) if row["id"] in wanted}
    return validation.count_tokens(tally.samples, cleaned, count)


def examples(project: Project) -> Iterator[Example]:
    """The cleaned rows in order of id; SemError when cleaning is undone or was cut short."""
    for row in files.rows(project.processed / NAME):
        yield Example(**row)


def facts(project: Project) -> dict[str, Any]:
    """clean.json, after its hash was compared with clean.jsonl."""
    path = project.processed / FACTS
    if not path.exists():
        raise SemError(f"{path}: no such file", "run `fab dataset.clean` first")
    found = files.read_json(path)
    there = files.sha256(project.processed / NAME)
    if there != found["sha256"]:
        raise SemError(
            f"{project.processed / NAME} is {there[:12]}…, {FACTS} says {found['sha256'][:12]}…",
            "run `fab dataset.clean` again",
        )
    return found
