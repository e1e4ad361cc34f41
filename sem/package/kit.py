"""The conformance kit: proven prompts and their answers, which a package can be asked anywhere.

`kit.jsonl` holds a row a prompt: the cleaned page, the exact text and token ids of the prompt, and
the answer that the evaluated model gave. Replaying it needs the package and nothing else.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, schema
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.eval.answers import answers
from sem.eval.answers.subject import EvalSubject
from sem.lm.local import chat as chats
from sem.lm.local import hardware
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.local.generator import Prompt
from sem.lm.local.hf import HfGenerator

KIT = "kit.jsonl"
MAX_ROWS = 8
FREE, CONSTRAINED = "free", "constrained"
ROW_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("id", "task", "system_prompt", "page", "prompt", "ids", "answer", "finish"),
        *("decoding", "max_new_tokens", "batch"),
    ],
    "properties": {
        "id": {"type": "string"},
        "task": {"type": "string"},
        "system_prompt": {"type": "string"},
        "page": {"type": "string"},
        "prompt": {"type": "string"},
        "ids": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        "answer": {"type": "string"},
        "finish": {"enum": ["stop", "length", "closed"]},
        "decoding": {"enum": [FREE, CONSTRAINED]},
        "max_new_tokens": {"type": "integer", "minimum": 1, "maximum": 1 << 20},
        "batch": {"type": "integer", "minimum": 0},
    },
}


@dataclass(frozen=True)
class KitRow:
    """One proven prompt and its answer."""

    id: str
    task: str
    system_prompt: str
    # Cleaned, as the model read it.
    page: str
    prompt: str
    ids: list[int]
    answer: str
    finish: str
    # free or constrained: whether the schema held the answer while it was decoded.
    decoding: str
    max_new_tokens: int
    # Rows of one number were answered together: padding changes the last bits.
    batch: int

    def matches(self, speaker: Chat, tasks: dict[str, TaskSpec]) -> bool:
        """Return whether `speaker` writes this prompt of its page, with these ids."""
        spec = tasks.get(self.task)
        if spec is None:
            return False
        user = spec.prompt(self.page)
        is_text = speaker.prompt_text(self.system_prompt, user) == self.prompt
        return is_text and speaker.prompt_ids(self.system_prompt, user) == self.ids


def build_kit(proven: EvalSubject, speaker: Chat) -> list[KitRow]:
    """Return the rows of the shortest answered prompts of `proven`, whole batches where they fit.

    Empty where it has no answers by its own settings.
    """
    book = proven.book
    if not book.path.exists() or book.is_stale():
        return []
    recorded = answers.read_answers(book.path)
    settings = proven.settings
    pairs = answers.ordered_prompts(proven.examples, proven.tasks, speaker, settings)
    # The shortest come last.
    first = max(0, len(pairs) - MAX_ROWS)
    if settings.batch < MAX_ROWS:
        first = -(-first // settings.batch) * settings.batch
    rows = []
    for place, (example, prompt) in enumerate(pairs[first:], first):
        answer = recorded.get(example.id)
        if answer and answer.finish != "refused":
            spec, number = proven.tasks[example.task], place // settings.batch
            rows.append(_row(example, spec, prompt, answer, speaker, number))
    return rows


def _row(
    example: Example,
    spec: TaskSpec,
    prompt: Prompt,
    answer: answers.Answer,
    speaker: Chat,
    batch: int,
) -> KitRow:
    system = example.system_prompt or spec.system_prompt
    return KitRow(
        id=example.id,
        task=example.task,
        system_prompt=system,
        page=example.input_text,
        prompt=speaker.prompt_text(system, spec.prompt(example.input_text)),
        ids=list(prompt.ids),
        answer=answer.text,
        finish=answer.finish,
        decoding=CONSTRAINED if prompt.schema else FREE,
        max_new_tokens=prompt.max_new_tokens,
        batch=batch,
    )


def write_kit(folder: Path, rows: Sequence[KitRow]) -> None:
    """Write `rows` as the kit of the package in `folder`."""
    files.write_rows(folder / KIT, (asdict(row) for row in rows))


def read_kit(folder: Path) -> list[KitRow]:
    """Return the kit of the package in `folder`; raise SemError when it has none, or a bad row."""
    if not (folder / KIT).exists():
        raise SemError(
            f"{folder.name}: no {KIT}: its run had no answers, or an older version made it",
            "answer the test part with `fab eval.generate`, then export it again",
        )
    rows = []
    for number, row in enumerate(files.read_rows(folder / KIT), 1):
        problems = schema.schema_problems(row, ROW_SCHEMA, limit=1)
        if problems or number > MAX_ROWS:
            reason = problems[0] if problems else f"more than {MAX_ROWS} rows"
            raise SemError(f"{KIT}:{number}: {reason}", "export the package again")
        rows.append(KitRow(**row))
    return rows


def replay_kit(folder: Path, tasks: dict[str, TaskSpec]) -> list[str]:
    """Let the packaged model answer its kit again; return the ids of rows that it answers else.

    The machine and precision of the evaluation are needed for the same bytes.
    """
    machine = hardware.detect_hardware()
    loaded = models.load_model(folder / "model", machine.dtype, machine.device)
    generator = HfGenerator(loaded, chats.load_chat(folder / "model"))
    different = []
    for _, group in groupby(read_kit(folder), key=lambda row: row.batch):
        rows = list(group)
        completions = generator.generate([_prompt(row, tasks) for row in rows])
        pairs = zip(rows, completions, strict=True)
        different += [row.id for row, reply in pairs if reply.text != row.answer]
    return different


def _prompt(row: KitRow, tasks: dict[str, TaskSpec]) -> Prompt:
    held = row.decoding == CONSTRAINED
    text = jsonio.canonical_json(tasks[row.task].io_schema) if held else None
    return Prompt(tuple(row.ids), row.max_new_tokens, text)
