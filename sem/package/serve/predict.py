"""Many pages to one file of answers, row by row: killed anywhere, it goes on where it stopped.

    {"id": "p1", "html": "<html>…"}   ->   {"id": "p1", "value": {…}, "slots": {…}, …}

The input is any file that `dataset.import` reads. Beside the answers stands what gave them
(`ANSWERS.meta.json`): answers of another package or input are never mixed in.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sem.core import files, jsonio, manifest, schema
from sem.core.errors import SemError
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.ingest.readers import ReadReporter
from sem.dataset.store.examples_table import RawRow
from sem.package.serve.expert import Expert, Extraction, PageQuestion

_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "tokens_in", "tokens_out", "refusal"],
    "properties": {
        "id": {"type": "string"},
        "tokens_in": {"type": "integer"},
        "tokens_out": {"type": "integer"},
        "refusal": {"type": ["object", "null"]},
        "fallback": {"type": ["object", "null"]},
    },
}


@dataclass(frozen=True)
class PredictOptions:
    """What is read and how much may be spent."""

    # Of rows that name none.
    task: str | None = None
    # Ours: theirs, as in `dataset.import --map`.
    columns: dict[str, str] = field(default_factory=dict)
    # Pages answered together.
    batch: int = 8
    # Tokens in and out after which no further batch begins, over every start; None: no limit.
    max_tokens: int | None = None


@dataclass
class PredictTally:
    """What a prediction did: `answered` in this start, the rest over every start."""

    answered: int = 0
    earlier: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    # Rows of the input that are no page, by reason; in ANSWERS.unread.jsonl.
    unread: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    # Pages by what became of asking the strong model; empty where there is none.
    fallback: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    seconds: float = 0.0
    # The budget ended it before the input did.
    is_over_budget: bool = False

    @property
    def rate(self) -> float:
        """Return pages a second of this start."""
        return self.answered / self.seconds if self.seconds else 0.0


def predict_file(
    expert: Expert, package: Path, source: Path, target: Path, options: PredictOptions
) -> Iterator[PredictTally]:
    """Answer every row of `source` into `target`; yields the tally after each batch and at last.

    Raise SemError when the source cannot be read, or when `target` holds answers of another
    package or input.
    """
    if options.task is not None:
        expert.contract.task(options.task)
    if not source.is_file():
        raise SemError(f"{source}: no such file", "check the path")
    tally = PredictTally()
    unread = target.with_name(f"{target.stem}.unread.jsonl")
    with files.lock_file(target.with_name(f".{target.name}.lock"), str(target)):
        _claim_target(target, expert, package, source, options)
        answered_ids = _read_earlier(target, tally)
        with files.open_atomic_file(unread) as rejects, files.open_for_append(target) as file:
            for batch in _batches(expert, source, options, rejects, tally, answered_ids):
                if options.max_tokens is not None and tally.tokens >= options.max_tokens:
                    tally.is_over_budget = True
                    break
                began = time.perf_counter()
                extractions = expert.extract_many([_question(row) for row in batch])
                for row, extraction in zip(batch, extractions, strict=True):
                    files.append_row(file, {"id": row.id, **extraction.as_json()})
                    _count(extraction, tally)
                tally.answered += len(batch)
                tally.seconds += time.perf_counter() - began
                yield tally
        if not tally.unread:
            unread.unlink()
    yield tally


def count_rows(source: Path) -> int | None:
    """Return how many rows `source` has, for a bar; None where counting is reading it whole."""
    kind = source.name.lower().rsplit(".", 1)[-1]
    if kind not in ("jsonl", "ndjson"):
        return None
    with source.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _count(extraction: Extraction, tally: PredictTally) -> None:
    tally.tokens += extraction.tokens_in + extraction.tokens_out
    if extraction.refusal:
        tally.refused[extraction.refusal.reason] += 1
    if extraction.fallback:
        tally.fallback[extraction.fallback.status] += 1


def _claim_target(
    target: Path, expert: Expert, package: Path, source: Path, options: PredictOptions
) -> None:
    """Note what gives the answers, or check that the answers there are of the same."""
    note = target.with_name(f"{target.stem}.meta.json")
    made_by = {
        "format": "predictions.v1",
        "package": package.name,
        "manifest_sha256": files.sha256_file(package / manifest.NAME),
        "input": source.name,
        "input_sha256": files.sha256_file(source),
        "task": options.task,
        "engine": expert.engine.name,
        "fallback": expert.fallback and expert.fallback.settings.fingerprint,
    }
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(note, jsonio.pretty_json(made_by))
        return
    earlier = files.read_object(note, "name another --output") if note.exists() else {}
    other = [key for key, value in made_by.items() if earlier.get(key) != value]
    if other:
        raise SemError(
            f"{target}: holds answers of another {other[0].removesuffix('_sha256')}",
            "name another --output, or remove that file to answer anew",
        )


def _read_earlier(target: Path, tally: PredictTally) -> set[str]:
    """Return the ids answered before, and count them; a torn last line is cut off."""
    if not target.exists():
        return set()
    with files.open_for_append(target):
        pass
    answered_ids = set()
    for number, row in enumerate(files.read_rows(target), 1):
        if problems := schema.schema_problems(row, _ANSWER, limit=1):
            raise SemError(f"{target}:{number}: {problems[0]}", "name another --output")
        answered_ids.add(row["id"])
        tally.tokens += row["tokens_in"] + row["tokens_out"]
        if row["refusal"]:
            tally.refused[str(row["refusal"].get("reason"))] += 1
        if row.get("fallback"):
            tally.fallback[str(row["fallback"].get("status"))] += 1
    tally.earlier = len(answered_ids)
    return answered_ids


def _batches(
    expert: Expert,
    source: Path,
    options: PredictOptions,
    rejects: IO[bytes],
    tally: PredictTally,
    answered_ids: set[str],
) -> Iterator[list[RawRow]]:
    """Yield the rows that have no answer yet, a batch at a time; others go to `rejects`."""

    def refuse(name: str, reason: str) -> None:
        tally.unread[reason] += 1
        rejects.write((jsonio.canonical_json({"row": name, "reason": reason}) + "\n").encode())

    def note(text: str) -> None:
        tally.notes[text] += 1

    wanted = ImportOptions(task=options.task, columns=options.columns)
    reporter = ReadReporter(refuse, note)
    with importers.read_source_rows(expert.contract.tasks, source, wanted, reporter) as placed:
        rows = iter(_fresh(placed, options.task, answered_ids, reporter))
        while batch := list(islice(rows, max(1, options.batch))):
            yield batch


def _fresh(
    placed: Iterable[tuple[str, RawRow]],
    task: str | None,
    answered_ids: set[str],
    reporter: ReadReporter,
) -> Iterator[RawRow]:
    seen: set[str] = set()
    for where, row in placed:
        if row.input_text is None:
            reporter.refuse(row.id or where, "no_input")
            continue
        named = importers.name_row(importers.with_task(row, task))
        assert named.id is not None
        if named.id in seen:
            reporter.refuse(named.id, "id_twice")
        elif named.id not in answered_ids:
            yield named
        seen.add(named.id)


def _question(row: RawRow) -> PageQuestion:
    meta = importers.as_object(row.metadata)
    url, kind = meta.get("url"), meta.get("page_type") or row.page_type
    return PageQuestion(
        row.input_text or "",
        row.task,
        url if isinstance(url, str) else None,
        kind if isinstance(kind, str) else None,
    )
