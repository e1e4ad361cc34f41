"""Answers: what a run's model said, a row an example, appended and resumable."""

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, state
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.eval.config import EvalSettings
from sem.lm.local.chat import Chat
from sem.lm.local.generator import Completion, Generator, Prompt

# No usable answer at all: every field it should hold is wrong.
NOTHING = object()

CANDIDATE = ("candidate", "text", "answer", "response", "response_strong")


@dataclass(frozen=True)
class Answer:
    """One model output. `latency_ms` is the wall time of its whole batch of `batch` prompts."""

    id: str
    task: str
    text: str
    # Stop | length | refused | closed (constrained, made to end for want of room).
    finish: str
    tokens_in: int
    tokens_out: int
    latency_ms: int
    batch: int


@dataclass(frozen=True)
class AnswerFile:
    """The answers of one run on one split: a JSONL file and a header that says of what.

    `facts` are the machine's that adds rows; the file keeps those of every machine that did.
    """

    path: Path
    header: dict[str, Any]
    facts: dict[str, Any] | None = None

    @property
    def header_path(self) -> Path:
        return self.path.with_suffix(".json")

    def open(self) -> set[str]:
        """Ids already answered; answers under another header are set aside, never mixed in."""
        if self.header_path.exists() and self.is_stale():
            self._set_aside()
        files.write_file(self.header_path, jsonio.pretty_json({**self.recorded(), **self.header}))
        if not self.path.exists():
            return set()
        with files.open_for_append(self.path):
            # Cuts the torn last line of a killed writer.
            pass
        return {row["id"] for row in state.read_state_rows(self.path, state.NamedRow)}

    def recorded(self) -> Mapping[str, Any]:
        """Return what the file says of its answers; nothing where there are none."""
        return state.read_if_there(self.header_path, state.AnswersHeader) or {}

    def is_stale(self) -> bool:
        """Return whether the answers there were given under another header."""
        return not self.header_path.exists() or bool(self.changes())

    def changes(self) -> list[str]:
        """Return what differs between the answers there and what is asked, in words."""
        recorded = self.recorded()
        return [
            f"another {name.replace('_', ' ')} ({_short(recorded.get(name))}, now {_short(value)})"
            for name, value in self.header.items()
            if recorded.get(name) != value
        ]

    @property
    def made_on(self) -> list[dict[str, Any]]:
        """Return which machine answered from which row on.

        Each entry holds `from_row`, `dtype`, `batch` and `machine`.
        """
        recorded = self.recorded()
        older = {name: recorded[name] for name in ("dtype", "batch") if name in recorded}
        return recorded.get("made_on") or ([{"from_row": 0, **older}] if older else [])

    def note_machine(self, rows: int) -> None:
        """Record that the rows after the first `rows` are this machine's, where that is new."""
        made_on = self.made_on if rows else []
        last = {k: v for k, v in made_on[-1].items() if k != "from_row"} if made_on else None
        if self.facts is not None and last != self.facts:
            made_on = [*made_on, {"from_row": rows, **self.facts}]
            recorded = {k: v for k, v in self.recorded().items() if k not in ("dtype", "batch")}
            files.write_file(self.header_path, jsonio.pretty_json(recorded | {"made_on": made_on}))

    def _set_aside(self) -> None:
        changes = "; ".join(self.changes())
        old = files.sha256_json(self.recorded())[:8]
        for path in (self.path, self.header_path):
            if path.exists():
                path.rename(path.with_name(f"{path.stem}.{old}{path.suffix}"))
        console.print_note(
            f"{self.path.name} answered {changes}: kept as {self.path.stem}.{old}.jsonl"
        )


def _short(value: Any) -> str:
    """Return `value` as one word of a message: a hash by its beginning."""
    if value is None:
        return "not recorded"
    text = value if isinstance(value, str) else jsonio.canonical_json(value)
    return text if len(text) <= 24 else f"{files.sha256_text(text)[:8]}…"


def answers_book(
    folder: Path, split: str, header: dict[str, Any], facts: dict[str, Any] | None = None
) -> AnswerFile:
    """Return the Book of `split` in a run's report `folder`.

    Constrained answers have one of their own.
    """
    return AnswerFile(folder / file_name(split, header.get("decoding", "free")), header, facts)


def file_name(split: str, decoding: str) -> str:
    """Return the name of the file that holds the answers on `split` of this `decoding`."""
    return f"answers.{split}.jsonl" if decoding == "free" else f"answers.{split}.{decoding}.jsonl"


def read_answers(path: Path) -> dict[str, Answer]:
    """Answers in `path` by example id; raise SemError when a row does not fit."""
    answers_by_id = {}
    for number, row in enumerate(state.read_state_rows(path, state.AnswerRow), 1):
        try:
            answers_by_id[row["id"]] = Answer(**row)
        except TypeError as error:
            raise SemError(
                f"{path}:{number}: not an answer row", "generate the answers again"
            ) from error
    return answers_by_id


def parse_answer_text(text: str) -> tuple[Any, bool, bool]:
    """Return what an answer's `text` says, whether all of it is JSON, and whether it was cut out.

    A base model wraps its JSON in a fence or a sentence: format is judged by the second, knowledge
    by the first, so that the baseline is not beaten by punctuation alone. NOTHING where neither
    all of the text nor the first object in it is JSON.
    """
    value = _parse(text)
    if value is not NOTHING:
        return value, True, False
    match = re.search(r"\{.*\}", text[:20_000], re.S)
    if match:
        for candidate in (match[0], text[match.start() : text.find("}", match.start()) + 1]):
            value = _parse(candidate)
            if isinstance(value, dict):
                return value, False, True
    return NOTHING, False, False


def _parse(text: str) -> Any:
    try:
        return jsonio.parse_json(text)
    except ValueError:
        return NOTHING


def take_answers(path: Path, target: Path, task_of: Mapping[str, str]) -> tuple[int, int, int]:
    """Keep answers made elsewhere, rows of id and candidate in `path`, as `target`.

    `task_of`: task by example id. Returns (kept, of no example here, examples without an answer).
    """
    answers_by_id: dict[str, Answer] = {}
    strangers = 0
    for number, row in enumerate(files.read_values(path), 1):
        answer = _taken(row, f"{path}:{number}", task_of)
        strangers += answer is None
        if answer is not None:
            answers_by_id[answer.id] = answer
    if not answers_by_id:
        raise SemError(
            f"{path}: answers none of the {len(task_of)} examples here",
            "write rows of id and candidate, with the ids of this split",
        )
    files.write_rows(target, [asdict(answers_by_id[name]) for name in sorted(answers_by_id)])
    return len(answers_by_id), strangers, len(task_of) - len(answers_by_id)


def _taken(row: Any, where: str, task_of: Mapping[str, str]) -> Answer | None:
    fields = row if isinstance(row, dict) else {}
    text = next((fields[name] for name in CANDIDATE if name in fields), None)
    if not isinstance(fields.get("id"), str) or text is None:
        raise SemError(f"{where}: no id or no candidate", "write both in each row")
    if fields["id"] not in task_of:
        return None
    counts = [fields.get(name) or 0 for name in ("tokens_in", "tokens_out", "latency_ms")]
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        raise SemError(
            f"{where}: tokens or latency_ms is not a whole number",
            "write whole numbers, or leave them out",
        )
    candidate = text if isinstance(text, str) else jsonio.canonical_json(text)
    tokens_in, tokens_out, latency_ms = counts
    task = task_of[fields["id"]]
    return Answer(fields["id"], task, candidate, "stop", tokens_in, tokens_out, latency_ms, 1)


def sample_examples(examples: Sequence[Example], count: int | None, seed: int) -> list[Example]:
    """Return `count` examples spread evenly over domains or documents, chosen by `seed`.

    In id order.
    """
    ordered = sorted(examples, key=lambda e: e.id)
    if count is None or count >= len(ordered):
        return ordered
    dice = random.Random(seed)
    units: dict[str, list[Example]] = {}
    for example in ordered:
        units.setdefault(example.unit, []).append(example)
    in_order = sorted(units.values(), key=lambda rows: rows[0].domain or rows[0].id)
    queues = [dice.sample(rows, len(rows)) for rows in in_order]
    sample: list[Example] = []
    while len(sample) < count:
        sample += [queue.pop() for queue in queues if queue]
    return sorted(sample[:count], key=lambda e: e.id)


def ordered_prompts(
    examples: Sequence[Example], tasks: dict[str, TaskSpec], chat: Chat, settings: EvalSettings
) -> list[tuple[Example, Prompt]]:
    """Return each example with its prompt, longest first.

    Batches are fixed and little is padding.
    """
    is_held = settings.decoding == "constrained"
    pairs = []
    for example in examples:
        spec = tasks[example.task]
        system = example.system_prompt or spec.system_prompt
        ids = chat.prompt_ids(system, spec.prompt(example.input_text))
        held = jsonio.canonical_json(spec.io_schema) if is_held else None
        pairs.append((example, Prompt(tuple(ids), settings.max_new_tokens, held)))
    return sorted(pairs, key=lambda pair: (-len(pair[1].ids), pair[0].id))


def generate_missing_answers(
    target: AnswerFile,
    pairs: Sequence[tuple[Example, Prompt]],
    generator: Generator,
    settings: EvalSettings,
) -> Iterator[int]:
    """Answer `pairs` batch by batch into `target`; yields how many rows each batch settled.

    A batch interrupted half-way is decoded again as a whole, so that padding, and with it the
    last bit of every logit, is what an undisturbed run has; rows already there are not repeated.
    """
    answered_ids = target.open()
    if any(example.id not in answered_ids for example, _ in pairs):
        target.note_machine(len(answered_ids))
    with files.open_for_append(target.path) as file:
        for start in range(0, len(pairs), settings.batch):
            batch = pairs[start : start + settings.batch]
            if any(example.id not in answered_ids for example, _ in batch):
                began = time.perf_counter()
                completions = generator.generate([prompt for _, prompt in batch])
                took = round((time.perf_counter() - began) * 1000)
                for (example, prompt), completion in zip(batch, completions, strict=True):
                    if example.id not in answered_ids:
                        row = _answer(example, prompt, completion, took, len(batch))
                        files.append_row(file, asdict(row))
            yield len(batch)


def _answer(
    example: Example, prompt: Prompt, completion: Completion, took_ms: int, batch: int
) -> Answer:
    return Answer(
        id=example.id,
        task=example.task,
        text=completion.text,
        finish=completion.finish,
        tokens_in=len(prompt.ids),
        tokens_out=completion.tokens_out,
        latency_ms=took_ms,
        batch=batch,
    )
