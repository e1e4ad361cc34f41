"""One stored row to one line of the clean set: everything that is done to a row by itself.

Pure: the same row and plan give the same bytes, on any machine. It runs in the sandboxed workers
of `worker_pool`, which the local engine and every node of a cluster start.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sem.core import jsonio, sandbox, schema, settings
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import consent, dedupe, evidence, grounding, near_duplicates, tokens
from sem.dataset.clean.tally import closed_slots, hash_to_fraction
from sem.dataset.config import Clean, TaskOptions
from sem.dataset.html import bombs, markup
from sem.dataset.html.prune import PageBudget
from sem.dataset.personal import pii
from sem.dataset.store import rows, tombstones
from sem.dataset.store.examples_table import RawRow
from sem.dataset.store.rows import PreparedRow, Reject

# Where a row is from and what it is: addresses and names of ours, not of people.
ABOUT = frozenset(("url", "domain", "site", "page_type", "language", "task", "capture"))

# A value of more characters is a text: `prose` keeps it in one piece within a budget.
LONG_ANSWER = 300


@dataclass(frozen=True)
class CleaningPlan:
    """Everything the work depends on besides the row."""

    clean: Clean
    tasks: dict[str, TaskSpec]
    # Of the rows whose evidence is measured, chosen by id.
    share: float = 0.0
    # a tokenizer.json; None: tokens are not counted.
    tokenizer: str | None = None
    # The date that consent is judged by, as YYYY-MM-DD.
    today: str = ""
    # Tombstones, as their as_json().
    stones: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """This plan as plain JSON, for a worker elsewhere."""
        tasks = {name: spec.as_json() for name, spec in self.tasks.items()}
        return {**vars(self), "clean": asdict(self.clean), "tasks": tasks}


def plan_of(value: dict[str, Any]) -> CleaningPlan:
    """Return the Plan that `value`, its as_json(), describes."""
    tasks = {
        name: settings.build_settings(TaskSpec, spec, f"TaskSpec {name}")
        for name, spec in value["tasks"].items()
    }
    clean = settings.build_settings(Clean, value["clean"], "dataset.yaml: clean")
    return CleaningPlan(**{**value, "clean": clean, "tasks": tasks})


@dataclass(frozen=True)
class CleanedRow:
    """What a row became: a line of the clean set, or the reject it earned; and its counts."""

    # Canonical JSON of the example.
    line: str = ""
    # Digest of the input, hex.
    key: str = ""
    # Digest of the reference, hex.
    answer: str = ""
    # Of the input, for near-duplicates, hex.
    sketch: str = ""
    task: str = ""
    reason: str | None = None
    detail: str = ""
    report: dict[str, int] = field(default_factory=dict)
    survival: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pii: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadPage:
    """A page without a reference as the model sees it, or the reason why it cannot."""

    text: str = ""
    language: str = ""
    # What each placeholder of personal data in `text` stands for.
    placeholders: dict[str, str] = field(default_factory=dict)
    report: dict[str, int] = field(default_factory=dict)
    reason: str | None = None
    detail: str = ""


class RowCleaner:
    """A plan made ready; `restart` is called before each part of the work that takes its time."""

    def __init__(self, plan: CleaningPlan, restart: Callable[[], None] = lambda: None) -> None:
        self._plan, self._restart = plan, restart
        self._options = {name: plan.clean.of(name) for name in plan.tasks}
        self._closed = {
            name: frozenset(closed_slots(spec.io_schema)) for name, spec in plan.tasks.items()
        }
        self._count = tokens.make_token_counter(plan.tokenizer) if plan.tokenizer else None
        self._stones = tombstones.stones_of_json(plan.stones)

    def of(self, task: str) -> TaskOptions:
        """Return the options of `task`."""
        return self._options[task]

    def make(self, row: RawRow) -> CleanedRow:
        """Return what `row` becomes."""
        self._restart()
        try:
            self._stones.refuse(row)
            prepared = rows.prepare_row(row, self._plan.tasks, self)
            prepared = consent.check_consent(prepared, self._plan.clean.consent, self._plan.today)
            return self._finish(prepared, self._simplified(prepared))
        except Reject as reject:
            return CleanedRow(reason=reject.reason, detail=reject.detail)
        except MemoryError:
            return CleanedRow(reason="page_memory")
        except sandbox.ForbiddenError as error:
            return CleanedRow(reason="page_forbidden", detail=f"reading it would {error}")
        except Exception as error:  # one row of a million must not end the run, nor pass unseen
            return CleanedRow(reason="row_fault", detail=f"{type(error).__name__}: {error}"[:300])

    def read_page(self, task: str, page: str, meta: dict[str, Any]) -> ReadPage:
        """Return `page`, a prompt for `task` as a row holds it, cleaned as a row's is."""
        self._restart()
        try:
            if not page.strip():
                raise Reject("no_input")
            row = rows.unlabelled_row(self._plan.tasks[task], self._options[task], page, meta)
            simplified = self._simplified(row)
            if len(simplified.text) < max(1, row.options.min_chars):
                raise Reject("empty_input", f"{len(simplified.text)} characters after cleaning")
            self._restart()
            input_text = "\n".join(part for part in (row.before, simplified.text) if part)
            hints = {"url": meta.get("url"), "language": simplified.language}
            shown, placeholders = pii.redact_new_page(input_text, self._plan.clean.pii, hints)
            return ReadPage(shown, simplified.language, placeholders, simplified.report)
        except Reject as reject:
            return ReadPage(reason=reject.reason, detail=reject.detail)
        except MemoryError:
            return ReadPage(reason="page_memory")
        except Exception as error:  # one page must not end a server, nor pass unseen
            return ReadPage(reason="page_fault", detail=f"{type(error).__name__}: {error}"[:300])

    def _simplified(self, row: PreparedRow) -> markup.Simplified:
        self._restart()
        options = row.options
        if len(row.page.encode("utf-8", "replace")) > self._plan.clean.max_bytes:
            raise Reject("page_size")
        if options.input != "text" and (reason := bombs.page_fault(row.page, self._plan.clean)):
            raise Reject(reason)
        chars = options.max_chars
        chars_left = None if chars is None else max(0, chars - len(row.before) - 1)
        return markup.simplify_page(row.page, options, chars_left, self._budgets(row))

    def _budgets(self, row: PreparedRow) -> list[PageBudget]:
        limit = row.options.page_tokens.get(row.page_type, row.options.max_tokens)
        if limit is None or self._count is None:
            return []
        return [PageBudget(max(0, limit - self._count(f"{row.before}\n")), self._count)]

    def _finish(self, row: PreparedRow, page: markup.Simplified) -> CleanedRow:
        if len(page.text) < max(1, row.options.min_chars):
            raise Reject("empty_input", f"{len(page.text)} characters after cleaning")
        self._restart()
        verdict = self._judged(row, page)
        input_text = "\n".join(part for part in (row.before, page.text) if part)
        private = self._private(row, page, input_text, verdict.reference)
        example = self._example(row, page, private)
        if verdict.lost and row.options.judges_evidence:
            example = replace(example, meta={**example.meta, "evidence_lost": verdict.lost})
        threshold = self._plan.clean.near.threshold
        return CleanedRow(
            line=jsonio.canonical_json(example.as_json()),
            key=dedupe.input_key(example).hex(),
            answer=dedupe.answer_key(example).hex(),
            sketch=near_duplicates.sketch_texts([example.input_text], threshold).tobytes().hex(),
            task=example.task,
            report={**page.report, **self._tokens(example)},
            survival=verdict.survival,
            notes=[*row.notes, *verdict.notes, *_advice(row, page)],
            pii=private.counts,
        )

    def _private(
        self, row: PreparedRow, page: markup.Simplified, input_text: str, reference: Any
    ) -> pii.PiiResult:
        """Return the row's texts after the policy for personal data, also those beside the
        input.
        """
        beside = {
            "meta": {key: value for key, value in row.meta.items() if key not in ABOUT},
            "system_prompt": row.system_prompt,
        }
        hints = {"url": row.meta.get("url"), "language": page.language}
        private = pii.apply_pii_policy(input_text, reference, self._plan.clean.pii, hints, beside)
        if private.reason:
            raise Reject(private.reason)
        if private.reference != reference:
            problems = schema.schema_problems(private.reference, row.spec.io_schema, limit=1)
            if problems:
                raise Reject("pii_breaks_schema", problems[0])
        return private

    def _judged(self, row: PreparedRow, page: markup.Simplified) -> evidence.EvidenceResult:
        if not row.options.judges_evidence and hash_to_fraction(row.id) >= self._plan.share:
            return evidence.EvidenceResult(row.reference)
        task = row.spec.task_id
        verdict = evidence.find_evidence(
            row.reference, row.page, page.text, row.options, self._closed[task]
        )
        if verdict.reason:
            raise Reject(verdict.reason, verdict.detail)
        problems = schema.schema_problems(verdict.reference, row.spec.io_schema, limit=1)
        if verdict.notes and problems:
            raise Reject("evidence_lost", f"without evidence, and needed: {problems[0]}")
        return verdict

    def _example(
        self, row: PreparedRow, page: markup.Simplified, private: pii.PiiResult
    ) -> Example:
        meta = {**row.meta, **private.also["meta"]}
        negatives = meta.get("negative_examples")
        facts: dict[str, Any] = {
            "language": rows.page_language(row.meta, page.language),
            "chars_before": len(row.page),
            "chars_after": len(page.text),
        }
        if page.template:
            facts["template"] = page.template
        if self._count is not None:
            facts["tokens_before"] = self._count(row.page)
            facts["tokens_after"] = self._count(private.text)
        return Example(
            id=row.id,
            task=row.spec.task_id,
            input_text=private.text,
            output_json=private.reference,
            meta={**meta, **facts},
            system_prompt=private.also["system_prompt"],
            slot_specs=row.slot_specs,
            source_id=row.source_id,
            negative_examples=negatives if isinstance(negatives, list) else None,
        )

    def _tokens(self, example: Example) -> dict[str, int]:
        names = ("tokens_before", "tokens_after")
        return {name: example.meta[name] for name in names if name in example.meta}


def _advice(row: PreparedRow, page: markup.Simplified) -> list[str]:
    """Return a note where a budget took from a page whose answer is mostly long texts of it."""
    if row.options.prose or not page.report.get("over_budget"):
        return []
    values = [str(value) for _, value in grounding.scalar_leaves(row.reference)]
    half = sum(map(len, values)) / 2
    long = [value for value in values if len(value) > LONG_ANSWER]
    if sum(map(len, long)) <= half:
        return []
    source = grounding.groundable_text(row.page)
    copied = sum(len(value) for value in long if grounding.is_grounded(value, source))
    return [f"long_answer: {row.spec.task_id}"] if copied > half else []
