"""The store to clean.jsonl: checked references, simplified pages, no exact duplicates.

Every row that does not make it is a row of rejects.jsonl with a reason. Rows are read as they
are stored, spilled, and written in order of id. Files are replaced whole, clean.json last: a
killed run leaves the old set, and the next one writes the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from sem.core import files, jsonio
from sem.core.errors import SemError, nearest
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset import dedupe, guard, markup, rows, store, validation
from sem.dataset.config import Clean, Dataset
from sem.dataset.layout import RawRow
from sem.dataset.tally import Tally, lot

NAME = "clean.jsonl"
REJECTS = "rejects.jsonl"
FACTS = "clean.json"  # written last: without it, or with another hash in it, cleaning is undone
REPORT = "dataset_validation.md"
SPILL = ".tmp-spill"


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
    folder, tally = project.processed, Tally()
    with files.lock(folder / ".clean.lock", str(folder / NAME)):
        files.sweep(folder)
        with store.reading(project.store) as opened, (folder / SPILL).open("wb") as spill:
            source = files.sha256(project.store)
            raw = progress(opened.rows(), opened.count) if progress else opened.rows()
            share = settings.evidence_rows / opened.count
            jobs = _jobs(raw, project, settings, tally, share)
            entries = _spill(spill, jobs, settings, tally, count_tokens is not None)
        _settle(folder, entries, settings, tally)
        (folder / SPILL).unlink()
        return _publish(project, settings, tally, source, count_tokens)


def _check_options(settings: Clean, project: Project) -> None:
    for name in settings.tasks:
        if name not in project.tasks:
            raise SemError(
                f"{project.configs / 'dataset.yaml'}: clean.tasks names {name!r}, "
                "which has no TaskSpec",
                nearest(name, project.tasks),
            )


@dataclass(frozen=True)
class Item:
    """A stored row on its way: prepared, or the reject it earned."""

    row: RawRow
    prepared: rows.Prepared | None
    reject: rows.Reject | None


def _jobs(
    raw: Iterable[RawRow], project: Project, settings: Clean, tally: Tally, share: float
) -> Iterator[tuple[Item, guard.Job | None]]:
    for row in raw:
        tally.read += 1
        try:
            made = rows.prepare(row, project.tasks, settings)
        except rows.Reject as reject:
            yield Item(row, None, reject), None
            continue
        budget = made.options.max_chars
        left = None if budget is None else max(0, budget - len(made.before) - 1)
        measured = made.reference if lot(made.id) < share else None
        yield Item(row, made, None), guard.Job(made.page, made.options, left, measured)


def _spill(
    file: IO[bytes], jobs: Any, settings: Clean, tally: Tally, sampled: bool
) -> list[dedupe.Entry]:
    """Write what each row became to FILE, as it comes; where, and what decides about it."""
    entries, offset = [], 0
    with guard.Pool(settings) as pool:
        for item, outcome in pool.map(jobs):
            name, example = item.row.id or "", None
            try:
                example = _finish(item, outcome)
            except rows.Reject as reject:
                made = _rejected(item.row, reject)
            else:
                made = example.as_json()
                tally.page(item.prepared, outcome)
                if sampled:
                    tally.see(name, item.row.input_text)
            entries.append(dedupe.entry(name, item.row, offset, example))
            offset += file.write((jsonio.dumps(made) + "\n").encode("utf-8"))
    return entries


def _finish(item: Item, outcome: guard.Outcome | None) -> Example:
    if item.prepared is None or outcome is None:
        raise item.reject or rows.Reject("page_crash")
    if outcome.reason:
        raise rows.Reject(outcome.reason)
    made = item.prepared
    if len(outcome.text) < max(1, made.options.min_chars):
        raise rows.Reject("empty_input", f"{len(outcome.text)} characters after cleaning")
    negatives = made.meta.get("negative_examples")
    return Example(
        id=made.id,
        task=made.spec.task_id,
        input_text="\n".join(part for part in (made.before, outcome.text) if part),
        output_json=made.reference,
        meta={
            **made.meta,
            "language": rows.language(made.meta, outcome.language),
            "chars_before": len(made.page),
            "chars_after": len(outcome.text),
        },
        system_prompt=made.system_prompt,
        slot_specs=made.slot_specs,
        source_id=made.source_id,
        negative_examples=negatives if isinstance(negatives, list) else None,
    )


def _rejected(row: RawRow, reject: rows.Reject) -> dict[str, Any]:
    return {"id": row.id, "task": row.task, "reason": reject.reason, "detail": reject.detail}


def _settle(folder: Path, entries: list[dedupe.Entry], settings: Clean, tally: Tally) -> None:
    """Write the rows that stay and the rejects, both in order of id."""
    with (
        (folder / SPILL).open("rb") as spill,
        files.replacing(folder / REJECTS) as refused,
        files.replacing(folder / NAME) as kept,
    ):
        for entry, reason in dedupe.verdicts(entries, settings.conflicts):
            spill.seek(entry.offset)
            line = spill.readline()
            row = jsonio.loads(line.decode("utf-8"))
            if reason is None:
                tally.keep(row["task"])
                kept.write(line)
                continue
            if reason != dedupe.OWN:
                reject = rows.Reject(reason)
                row = _rejected(RawRow(entry.id, row["task"]), reject)
            tally.refuse(row["reason"], entry.id)
            refused.write((jsonio.dumps(row) + "\n").encode("utf-8"))


def _publish(
    project: Project, settings: Clean, tally: Tally, source: str, count_tokens: Any
) -> Cleaned:
    folder = project.processed
    found = {
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
        project.reports / REPORT, validation.render(project.sem, tally, found, tokens)
    )
    files.write(folder / FACTS, jsonio.pretty(found))
    if not tally.kept:
        raise SemError(
            f"{project.store}: none of {tally.read:,} rows can be used",
            f"the reasons are in {report}",
        )
    return Cleaned(folder / NAME, report, tally)


def _tokens(path: Path, tally: Tally, count: Callable[[str], int]) -> dict[str, int]:
    """Tokens of the sampled inputs before and after cleaning."""
    raw = {name: page for _, name, page in tally.sample}
    both = [(raw[r["id"]], r["input_text"]) for r in files.rows(path) if r["id"] in raw]
    return {
        "rows": len(both),
        "before": sum(count(page) for page, _ in both),
        "after": sum(count(made) for _, made in both),
    }


def examples(project: Project) -> Iterator[Example]:
    """The cleaned rows in order of id."""
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
