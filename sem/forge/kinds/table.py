"""TableForge: CSV, Parquet and JSON lines, time series too -> questions with exact answers.

A table is cut into windows of a few rows; each pair shows its window and asks what can be read or
computed from it alone. The answers are computed here, in decimals, so no teacher is needed; one
may reword the questions, and a wording that loses a value is not taken.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, settings, shape
from sem.core.errors import SemError
from sem.dataset import text
from sem.dataset.ingest import csv_dialects, parquet_files, readers
from sem.dataset.ingest.readers import ReadReporter
from sem.forge.base import BaseForge, Pair
from sem.forge.kinds import table_questions
from sem.forge.kinds.table_questions import TableQuestion, Window
from sem.forge.kinds.text import pairs_task
from sem.forge.sources import documents, secret_scan
from sem.forge.sources.chunks import Skip
from sem.forge.teacher import prompts
from sem.lm.api.calls import ChatRequest

KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
# Raised when the prompt changes.
VERSION = "forge-table-1"
REWORD = (
    "Reword the question so that a person might ask it. Keep its meaning and every value, name "
    'and number exactly. Reply with JSON and nothing else: {"question": "…"}'
)
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["question"],
    "properties": {"question": {"type": "string", "minLength": 8, "maxLength": 1_000}},
}


@dataclass(frozen=True)
class TableParams:
    """`params:` of forge.yaml for tables."""

    # Of a window, which every pair shows; more is harder and longer.
    rows: int = 12
    # Of a window, drawn by the seed; fewer where it gives fewer.
    questions: int = 6
    kinds: tuple[str, ...] = tuple(table_questions.KINDS)
    # Column -> what it means, shown.
    columns: dict[str, str] = field(default_factory=dict)
    # Let the teacher reword each question: a call more.
    paraphrase: bool = False
    # a larger file is skipped.
    max_bytes: int = 50_000_000
    # Of a file; rows beyond are a counted skip.
    max_rows: int = 100_000
    # characters; a window with a longer cell is skipped.
    max_cell: int = 200

    def __post_init__(self) -> None:
        if not 2 <= self.rows <= 200 or not 1 <= self.questions <= 50:
            raise SemError(
                f"rows {self.rows} or questions {self.questions} is out of range",
                "write rows from 2 to 200, questions from 1 to 50",
            )
        unknown = sorted(set(self.kinds) - set(table_questions.KINDS))
        if unknown:
            raise SemError(
                f"unknown kinds: {', '.join(unknown)}",
                f"one of: {', '.join(table_questions.KINDS)}",
            )


class TableForge(BaseForge):
    """Windows are its items: a window is what stays on one side of a split."""

    @cached_property
    def params(self) -> TableParams:
        """Return the checked `params:`."""
        return settings.build_settings(TableParams, dict(self.config.params), "forge.yaml: params")

    def load(self) -> Iterator[Window]:
        """Yield the windows of every table, in the order of their names."""
        # Checked here: below, a SemError is a file that cannot be read.
        limits = self.params
        for source in documents.list_source_files(self.config.raw, self._skip, KINDS):
            try:
                yield from self._windows(source, limits)
            except SemError as error:
                self._skip(Skip(source.name, "file", "unreadable", error.message[:300]))

    def synthesize(self, items: Iterable[Window]) -> Iterator[Pair]:
        """Questions on each window with their answers; reworded where that is asked for."""
        pairs = (self._pair(window, case) for window in items for case in self._drawn(window))
        if not self.params.paraphrase:
            yield from pairs
            return
        ask = self.config.ask
        if ask is None:
            raise SemError("paraphrase needs a teacher", "name one, or leave paraphrase out")
        asked_for = ((pair, self._request(pair)) for pair in pairs)
        for pair, request, outcome in ask.answered(asked_for):
            yield self._reworded(pair, request, outcome)

    def source_of(self, item: Window) -> str:
        """Itself: a window stays on one side of a split."""
        return item.name

    def checks(self, quality: Any) -> Any:
        """Without checks of support and likeness: answers are computed, questions alike."""
        off = dict.fromkeys(("faithful", "near", "judge", "consistent"), False)
        return replace(quality, **off, language="any", max_question=10**6)

    def _skip(self, skip: Skip) -> None:
        self.config.skipped.append(skip.as_json())

    def _windows(self, source: documents.DocumentFile, limits: TableParams) -> Iterator[Window]:
        if source.path.stat().st_size > limits.max_bytes:
            detail = f"more than {limits.max_bytes:,} bytes"
            self._skip(Skip(source.name, "file", "too_large", detail))
            return
        digest, first = files.sha256_file(source.path), 1
        rows = self._rows(source)
        while batch := list(islice(rows, limits.rows)):
            if first > limits.max_rows:
                rest_count = len(batch) + sum(1 for _ in rows)
                self._skip(Skip(source.name, "rows", "max_rows", f"{rest_count:,} rows beyond"))
                return
            window = table_questions.make_window(source.name, digest, first, batch, limits.columns)
            reason = self._fault(window)
            if reason:
                self._skip(Skip(window.name, "rows", reason, sha256=digest))
            else:
                yield window
            first += len(batch)

    def _fault(self, window: Window) -> str:
        cells = [cell for row in window.rows for cell in row]
        if len(window.rows) < 2:
            return "one_row"
        if max(map(len, cells), default=0) > self.params.max_cell:
            return "long_cell"
        return "secret" if secret_scan.find_secrets(window.text) else ""

    def _rows(self, source: documents.DocumentFile) -> Iterator[dict[str, Any]]:
        """Yield the rows of `source` as dicts; what a reader refuses is a counted skip."""

        def refuse(where: str, reason: str) -> None:
            self._skip(Skip(f"{source.name} {where}", "rows", "unreadable", reason))

        def note(message: str) -> None:
            self.config.notes.append(f"{source.name}: {message}")

        listener = ReadReporter(refuse, note)
        if source.kind == "parquet":
            with parquet_files.open_parquet(source.path) as rows:
                yield from rows
            return
        read = csv_dialects.read_csv_rows if source.kind == "csv" else readers.iter_jsonl_rows
        for where, row in read(Path(source.path), listener):
            if isinstance(row, dict):
                yield row
            else:
                refuse(where, "no object")

    def _drawn(self, window: Window) -> list[TableQuestion]:
        """Some of the questions that `window` gives, of as many kinds as can be, by the seed."""
        chance = random.Random(f"{self.config.seed} {window.name} {window.sha256}")
        decks = [(kind, table_questions.KINDS[kind](window)) for kind in self.params.kinds]
        for _, deck in decks:
            chance.shuffle(deck)
        chance.shuffle(decks)
        questions: list[TableQuestion] = []
        while len(questions) < self.params.questions and any(deck for _, deck in decks):
            for kind, deck in decks:
                if deck and len(questions) < self.params.questions:
                    questions.append(replace(deck.pop(), kind=kind))
        return questions

    def _pair(self, window: Window, case: TableQuestion) -> Pair:
        task = self._task
        return Pair(
            case.question,
            case.answer
            if task and shape.is_text(task.io_schema, task.io_schema)
            else {"answer": case.answer},
            window.text,
            window.name,
            task.task_id if task else None,
            {
                "document_sha256": window.sha256,
                "rows": [window.first, window.last],
                "teacher": None,
                "kind": case.kind,
            },
        )

    @cached_property
    def _task(self) -> Any:
        return pairs_task(self.config)

    def _request(self, pair: Pair) -> ChatRequest:
        messages = (("system", REWORD), ("user", prompts.neutralise_text(pair.instruction)))
        ask: Any = self.config.ask
        return ask.request(messages, SCHEMA, VERSION)

    def _reworded(self, pair: Pair, request: ChatRequest, outcome: Any) -> Pair:
        """Return `pair` in the teacher's words, or as it was where they lose or add a value."""
        if not outcome.is_usable:
            return replace(pair, provenance={**pair.provenance, "reworded": str(outcome.fault)})
        question = text.single_line(outcome.value["question"])
        if table_questions.question_values(question) != table_questions.question_values(
            pair.instruction
        ):
            return replace(pair, provenance={**pair.provenance, "reworded": "lost_a_value"})
        provenance = {
            **pair.provenance,
            "teacher": outcome.model,
            "reworded": True,
            "template": pair.instruction,
            "prompt_version": VERSION,
            "prompt_sha256": prompts.prompt_sha256(request),
        }
        return replace(
            pair,
            instruction=question,
            provenance=jsonio.parse_json(jsonio.canonical_json(provenance)),
        )
