"""Questions with a reference answer: what the worth of a rewrite is measured on."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.eval.answers import golden

PROMPT = (*golden.INPUT, "vague", "raw_prompt")
REFERENCE = golden.ANSWER
FAMILY = ("family", "domain", "source_id", "file", "category")


@dataclass(frozen=True)
class ReferenceQuestion:
    """A prompt whose right answer is known; questions of one `family` are alike."""

    id: str
    prompt: str
    reference: str
    family: str


def load_questions(path: Path, count: int, seed: int) -> list[ReferenceQuestion]:
    """Return `count` questions of `path`, drawn by `seed`.

    JSON lines, or a golden set when it ends in .json.

    SemError names the row that cannot be used, and never its text.
    """
    entries = (
        golden.golden_entries(path) if path.suffix == ".json" else list(files.read_values(path))
    )
    questions: dict[str, ReferenceQuestion] = {}
    for number, row in enumerate(entries, 1):
        question = _question(row, number, f"{path}: row {number}")
        if question.id in questions:
            raise SemError(f"{path}: row {number}: its id appears twice", "rename one")
        questions[question.id] = question
    if not questions:
        raise SemError(f"{path}: holds no question", "write prompt and reference in each row")
    return random.Random(seed).sample(list(questions.values()), min(count, len(questions)))


def _question(row: Any, number: int, where: str) -> ReferenceQuestion:
    fields = row if isinstance(row, dict) else {}
    prompt = _text(_first(fields, PROMPT))
    reference = _text(_first(fields, REFERENCE))
    if not prompt:
        raise SemError(f"{where} has no prompt", f"one of {', '.join(PROMPT)}")
    if not reference:
        raise SemError(f"{where} has no reference answer", f"one of {', '.join(REFERENCE)}")
    name = str(fields.get("id") or f"row-{number:04}")
    return ReferenceQuestion(name, prompt, reference, str(_first(fields, FAMILY) or name))


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def _text(value: Any) -> str:
    """Return `value` as one text: itself, a list joined, the one field of an object.

    Else nothing.
    """
    if isinstance(value, dict):
        return _text(next(iter(value.values()))) if len(value) == 1 else ""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else jsonio.canonical_json(value)
