"""The one way in: a page to a checked JSON value, by the package that was proven.

    from sem import Expert

    with Expert.load("models/shop/packages/RUN") as expert:
        answer = expert.extract(html, task="productpage")
        answer.value, answer.slots["price"].confidence, answer.refusal

The page is cleaned, rendered and decoded as it was for training and proof: by the package's own
cleaner settings, its tokenizer and template, greedily, held to the schema. What cannot be answered
is a `Refusal` with a reason, never an exception and never a guess.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sem.core import jsonio, schema
from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.dataset.clean.page_reader import PageReader
from sem.dataset.clean.row_cleaning import ReadPage
from sem.dataset.ingest import charset
from sem.lm.local.generator import Completion, Prompt
from sem.package import contract as contracts
from sem.package import parity_record as record
from sem.package.contract import PackageContract
from sem.package.serve import fallback as fallbacks
from sem.package.serve.engine import Engine, open_package_engine
from sem.package.serve.fallback import Fallback, FallbackNote
from sem.package.serve.slot_readings import SlotReading, read_answer_slots

log = logging.getLogger("sem.serve")
AUTO = "auto"
# Processes that clean the pages of a batch; they start as they are needed.
READERS = 4
# Reasons of a refusal, and what each means to whoever asked.
REASONS = {
    "unknown_task": "the package has several tasks, or none of that name",
    "no_input": "the page is empty",
    "not_text": "the page is no text: it holds NUL bytes",
    "empty_input": "nothing is left of the page once it is cleaned",
    "page_size": "the page is larger than the cleaner takes",
    "page_depth": "the page is nested deeper than the cleaner takes",
    "page_attributes": "a tag of the page has more attributes than the cleaner takes",
    "page_timeout": "cleaning the page took too long",
    "page_memory": "cleaning the page took too much memory",
    "page_crash": "cleaning the page ended its process",
    "page_fault": "the page could not be cleaned",
    "page_forbidden": "cleaning the page tried what no page needs",
    "prompt_too_long": "the cleaned page and its answer do not fit the model's context",
    "answer_cut": "the answer did not end within its room",
    "not_json": "the answer is not JSON",
    "breaks_schema": "the answer does not keep to the schema",
    "engine_failed": "the engine failed while it answered",
}


@dataclass(frozen=True)
class Refusal:
    """Why there is no value: one of REASONS, and what is particular to this page."""

    reason: str
    detail: str = ""

    @property
    def message(self) -> str:
        """Return the reason in words, with its detail."""
        words = REASONS.get(self.reason, self.reason.replace("_", " "))
        return f"{words} ({self.detail})" if self.detail else words


@dataclass(frozen=True)
class PageQuestion:
    """One page to be asked: HTML or text, as bytes or characters."""

    page: str | bytes
    # None: the only task of the package.
    task: str | None = None
    url: str | None = None
    page_type: str | None = None


@dataclass(frozen=True)
class Extraction:
    """What became of one page: a value that keeps to the schema, or a refusal."""

    task: str
    value: Any = None
    refusal: Refusal | None = None
    # By slot, as `offers[0].price`.
    slots: dict[str, SlotReading] = field(default_factory=dict)
    # As the model wrote it, before personal data was put back.
    text: str = ""
    # The cleaned page as the model read it.
    page: str = ""
    # stop, or closed: made to end for want of room.
    finish: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    # What each placeholder of personal data in `page` stands for.
    placeholders: dict[str, str] = field(default_factory=dict, repr=False)
    # None: no strong model stands behind the expert.
    fallback: FallbackNote | None = None

    @property
    def confidence(self) -> float | None:
        """Return the confidence of the least sure slot; None where no slot has one."""
        known = [slot.confidence for slot in self.slots.values() if slot.confidence is not None]
        return min(known) if known else None

    def as_json(self) -> dict[str, Any]:
        """Return this extraction as the HTTP API and `package.predict` write it."""
        refusal = self.refusal
        return {
            "task": self.task,
            "value": self.value,
            "refusal": refusal and {"reason": refusal.reason, "message": refusal.message},
            "slots": {name: slot.as_json() for name, slot in self.slots.items()},
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "finish": self.finish,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "seconds": round(self.seconds, 3),
            "fallback": self.fallback and self.fallback.as_json(),
        }


@dataclass(frozen=True)
class _Cleaned:
    """A page as the model sees it, and its task."""

    spec: TaskSpec
    read: ReadPage


@dataclass(frozen=True)
class _Ready(_Cleaned):
    """A page that can be asked: cleaned, rendered, with room for its answer."""

    prompt: Prompt


class Expert:
    """A loaded package; a context manager. Threads may share one: an engine answers in turn."""

    def __init__(
        self,
        contract: PackageContract,
        engine: Engine,
        workers: int = READERS,
        fallback: Fallback | None = None,
    ) -> None:
        self.contract, self.engine, self.fallback = contract, engine, fallback
        plan = contract.cleaning_plan(engine.tokenizer_definition)
        self._reader, self._workers = PageReader(plan, workers), workers
        self._schemas = {
            name: jsonio.canonical_json(spec.io_schema) for name, spec in contract.tasks.items()
        }

    @classmethod
    def load(
        cls,
        folder: str | Path,
        engine: str = "auto",
        verify: bool = True,
        slots: int = 1,
        fallback: str | Path | None = None,
    ) -> "Expert":
        """Return the expert of the package in `folder`.

        `engine`: transformers, llamacpp, llamacpp-q8_0, or auto: the fastest of them in which
        parity.json shows that this package answers as it was proven. `verify`: check first that it
        is what its manifest says, as `package.verify` does. `slots`: how many pages the engine may
        answer at once. `fallback`: a file that names a strong model for the pages it is least sure
        of. Raise SemError when the package is not what it says, when an older version made it, or
        when its schema cannot hold an answer.
        """
        place = Path(folder)
        if not place.is_dir():
            raise SemError(f"{place}: no such folder", "name the folder of a package")
        if verify:
            _verify(place)
        strong = fallbacks.open_fallback(Path(fallback)) if fallback else None
        contract = contracts.read_contract(place)
        contracts.refuse_other_cleaner(place)
        if engine == AUTO:
            choice = record.choose_serving_engine(place)
            log.info("engine_chosen", extra={"facts": choice._asdict()})
            engine = choice.name
        loaded = open_package_engine(engine, place, slots)
        if contract.decoding == "constrained":
            for spec in contract.tasks.values():
                loaded.refuse_unheld_schema(jsonio.canonical_json(spec.io_schema))
        return cls(contract, loaded, fallback=strong)

    def __enter__(self) -> "Expert":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the cleaner's processes and the engine."""
        self._reader.close()
        self.engine.close()

    def extract(
        self,
        page: str | bytes,
        task: str | None = None,
        url: str | None = None,
        page_type: str | None = None,
    ) -> Extraction:
        """Return what the expert reads on `page`, HTML or text.

        `task` may be left out where the package has one. `url` and `page_type` are told where the
        examples held them: budgets and telephone numbers depend on them.
        """
        return self.extract_many([PageQuestion(page, task, url, page_type)])[0]

    def extract_many(self, questions: Sequence[PageQuestion]) -> list[Extraction]:
        """Return an extraction of each of `questions`, in order; they are answered together."""
        began = time.perf_counter()
        prepared = [self._rendered(page) for page in self._pages(questions)]
        ready = [item for item in prepared if isinstance(item, _Ready)]
        answers = iter(self._answered(ready))
        results = [next(answers) if isinstance(item, _Ready) else item for item in prepared]
        if self.fallback:
            results = self._with_fallback(results, self.fallback)
        seconds = time.perf_counter() - began
        return [replace(extraction, seconds=seconds) for extraction in results]

    def _with_fallback(self, own: Sequence[Extraction], strong: Fallback) -> list[Extraction]:
        """Return `own` answers with those that `strong` was asked instead of."""
        tasks = self.contract.tasks
        with ThreadPoolExecutor(strong.settings.workers) as pool:
            return list(pool.map(lambda answer: improve_extraction(answer, tasks, strong), own))

    def prompt_text(self, task: str | None, page: str) -> str:
        """Return the whole prompt of a cleaned `page`, as the model is given it."""
        spec = self.contract.task(task)
        return self.engine.chat.prompt_text(spec.system_prompt, spec.prompt(page))

    def _pages(self, questions: Sequence[PageQuestion]) -> "list[_Cleaned | Extraction]":
        """Return each page cleaned, several at once: one that times out holds up no other."""
        if len(questions) == 1:
            return [self._cleaned(questions[0])]
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(self._cleaned, questions))

    def _cleaned(self, question: PageQuestion) -> "_Cleaned | Extraction":
        try:
            spec = self.contract.task(question.task)
        except SemError as error:
            named = question.task or ""
            return Extraction(named, refusal=Refusal("unknown_task", str(error.hint)))
        page = question.page
        if isinstance(page, bytes):
            page = charset.decode_page(page).text
        if "\0" in page[:4096]:
            return Extraction(spec.task_id, refusal=Refusal("not_text"))
        meta = {"url": question.url, "page_type": question.page_type}
        read = self._reader.read(spec.task_id, page, meta)
        if read.reason:
            return Extraction(spec.task_id, refusal=Refusal(read.reason, read.detail))
        return _Cleaned(spec, read)

    def _rendered(self, page: "_Cleaned | Extraction") -> "_Ready | Extraction":
        if isinstance(page, Extraction):
            return page
        spec, read = page.spec, page.read
        ids = self.engine.chat.prompt_ids(spec.system_prompt, spec.prompt(read.text))
        room = self.contract.max_new_tokens
        if len(ids) + room > self.contract.context:
            detail = f"{len(ids):,} + {room:,} tokens of {self.contract.context:,}"
            return Extraction(
                spec.task_id,
                refusal=Refusal("prompt_too_long", detail),
                page=read.text,
                tokens_in=len(ids),
                placeholders=read.placeholders,
            )
        is_held = self.contract.decoding == "constrained"
        held = self._schemas[spec.task_id] if is_held else None
        return _Ready(spec, read, Prompt(tuple(ids), room, held))

    def _answered(self, ready: Sequence[_Ready]) -> list[Extraction]:
        if not ready:
            return []
        try:
            completions = self.engine.generate([item.prompt for item in ready])
        except Exception as error:  # an engine that dies must not end a server, nor pass unseen
            refusal = Refusal("engine_failed", f"{type(error).__name__}: {error}"[:200])
            return [_refused(item, refusal) for item in ready]
        pairs = zip(ready, completions, strict=True)
        return [_extraction(item, completion) for item, completion in pairs]


def _verify(folder: Path) -> None:
    from sem.package.verify import verify

    contracts.refuse_older_package(folder)
    faults = verify.package_faults(folder)
    if faults:
        raise SemError(
            f"{folder}: {len(faults)} faults:\n       " + "\n       ".join(faults),
            "do not use it: restore the files or export it again",
        )


def _refused(item: _Ready, refusal: Refusal, completion: Completion | None = None) -> Extraction:
    return Extraction(
        item.spec.task_id,
        refusal=refusal,
        page=item.read.text,
        text=completion.text if completion else "",
        finish=completion.finish if completion else "",
        tokens_in=len(item.prompt.ids),
        tokens_out=completion.tokens_out if completion else 0,
        placeholders=item.read.placeholders,
    )


def _extraction(item: _Ready, completion: Completion) -> Extraction:
    spec = item.spec
    if completion.finish == "refused":
        return _refused(item, Refusal("prompt_too_long"), completion)
    if completion.finish == "length":
        return _refused(item, Refusal("answer_cut"), completion)
    try:
        value = jsonio.parse_json(completion.text)
    except ValueError as error:
        return _refused(item, Refusal("not_json", str(error)[:200]), completion)
    problems = schema.schema_problems(value, spec.io_schema, limit=1)
    if problems:
        return _refused(item, Refusal("breaks_schema", problems[0][:200]), completion)
    readings = read_answer_slots(
        completion.text,
        value,
        spec,
        item.read.text,
        completion.ends,
        completion.probabilities,
    )
    names = item.read.placeholders
    return Extraction(
        spec.task_id,
        value=restore_placeholders(value, names),
        slots=_restored_slots(readings, names),
        text=completion.text,
        page=item.read.text,
        finish=completion.finish,
        tokens_in=len(item.prompt.ids),
        tokens_out=completion.tokens_out,
        placeholders=names,
    )


def needs_fallback(own: Extraction, strong: Fallback) -> bool:
    """Return whether `strong` is asked what the expert answered with `own`."""
    return strong.is_needed(own.confidence, own.refusal.reason if own.refusal else None)


def improve_extraction(
    own: Extraction, tasks: dict[str, TaskSpec], strong: Fallback
) -> Extraction:
    """Return the expert's `own` answer, or that of `strong` where it is needed and better.

    An answer of which the page holds less than of the expert's is not: an injected page can make
    a model say anything, it cannot make a value stand in the page.
    """
    if not needs_fallback(own, strong):
        return replace(own, fallback=FallbackNote(fallbacks.NOT_NEEDED))
    spec = tasks[own.task]
    note, value = strong.ask(spec, own.page)
    if note.status != fallbacks.USED:
        return replace(own, fallback=note)
    text = jsonio.canonical_json(value)
    slots = _restored_slots(read_answer_slots(text, value, spec, own.page), own.placeholders)
    if own.refusal is None and _ungrounded(slots) > _ungrounded(own.slots):
        rejected = replace(note, status=fallbacks.FAILED, reason="ungrounded")
        return replace(own, fallback=rejected)
    return replace(
        own,
        value=restore_placeholders(value, own.placeholders),
        refusal=None,
        slots=slots,
        text=text,
        finish="stop",
        fallback=note,
    )


def _ungrounded(slots: dict[str, SlotReading]) -> int:
    return sum(slot.grounded is False for slot in slots.values())


def _restored_slots(
    readings: Sequence[SlotReading], names: dict[str, str]
) -> dict[str, SlotReading]:
    return {r.slot: replace(r, value=restore_placeholders(r.value, names)) for r in readings}


def restore_placeholders(value: Any, values: dict[str, str]) -> Any:
    """Return `value` with the personal data that `values` holds for each placeholder."""
    if isinstance(value, str):
        for placeholder, original in values.items():
            value = value.replace(placeholder, original)
        return value
    if isinstance(value, list):
        return [restore_placeholders(inner, values) for inner in value]
    if isinstance(value, dict):
        return {name: restore_placeholders(inner, values) for name, inner in value.items()}
    return value
