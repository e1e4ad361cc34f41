"""Examples as token ids: the prompt unlabelled, the answer and its end of turn labelled."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.slotspec import SlotFile
from sem.core.taskspec import TaskSpec, taught_text
from sem.eval.scoring import scoring
from sem.lm.local.chat import Chat
from sem.train.recipe import Recipe
from sem.train.rows import token_classes


@dataclass(frozen=True)
class TrainingRow:
    """One training sequence: the first `prompt` ids carry no loss.

    `weights` is what each further id counts in the loss; None: each counts 1.
    """

    id: str
    ids: tuple[int, ...]
    prompt: int
    weights: tuple[float, ...] | None = None
    task: str = ""

    @property
    def length(self) -> int:
        """Tokens that one forward pass sees."""
        return len(self.ids)

    @property
    def trained(self) -> int:
        """Tokens that carry loss."""
        return len(self.ids) - self.prompt


@dataclass(frozen=True)
class TrainingRows:
    """What is trained on, and the ids of examples left out because they are too long."""

    kept: tuple[TrainingRow, ...]
    too_long: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        return {
            "examples": len(self.kept),
            "too_long": len(self.too_long),
            "tokens": sum(row.length for row in self.kept),
            "trained_tokens": sum(row.trained for row in self.kept),
        }


@dataclass(frozen=True)
class RowWriter:
    """How an example becomes a row."""

    tasks: dict[str, TaskSpec]
    chat: Chat
    recipe: Recipe
    # judge_slots.yaml: which slots are critical.
    slots: SlotFile

    def row(self, example: Example) -> TrainingRow:
        """Return `example` as one sequence."""
        prompt = self.prompt(example)
        answer = self.chat.answer_ids(taught_text(example.output_json))
        weights = self._weights(example)
        return TrainingRow(example.id, (*prompt, *answer), len(prompt), weights, example.task)

    def prompt(self, example: Example) -> tuple[int, ...]:
        """Return the ids up to where the model's turn begins, the same as at generation."""
        spec = self.tasks[example.task]
        system = example.system_prompt or spec.system_prompt
        return tuple(self.chat.prompt_ids(system, spec.prompt(example.input_text)))

    def _weights(self, example: Example) -> tuple[float, ...] | None:
        by_task = self.recipe.task_weights.get(example.task, 1.0)
        loss = self.recipe.loss
        if loss.is_flat and by_task == 1.0:
            return None
        levels = scoring.levels_of(self.tasks[example.task], example, self.slots)
        critical = {name for name, spec in levels.items() if spec.critical}
        pieces = token_classes.of_tokens(example.output_json, self.chat)
        return tuple(
            weight * by_task for weight in token_classes.weigh_pieces(pieces, loss, critical)
        )


def encode_examples(examples: Iterable[Example], writer: RowWriter) -> TrainingRows:
    """Return rows of `examples` in order; one with more than max_tokens is left out and named."""
    rows, too_long = [], []
    for example in examples:
        row = writer.row(example)
        if row.length > writer.recipe.max_tokens:
            too_long.append(example.id)
        else:
            rows.append(row)
    return TrainingRows(tuple(rows), tuple(too_long))


def sample_rows(rows: TrainingRows, count: int | None, seed: int) -> TrainingRows:
    """Return `count` rows chosen by `seed`, in id order; all of them when `count` is None."""
    if count is None or count >= len(rows.kept):
        return rows
    return TrainingRows(tuple(draw_by_seed(rows.kept, count, seed)), rows.too_long)


def draw_by_seed(pool: Sequence[Any], count: int, seed: int) -> list[Any]:
    """Return `count` of `pool` (things with an `id`) by `seed`, in id order."""
    by_id = sorted(pool, key=lambda example: example.id)
    picked = random.Random(seed).sample(by_id, min(count, len(by_id)))
    return sorted(picked, key=lambda example: example.id)


def check_trainable(rows: TrainingRows, what: str) -> None:
    """Raise SemError when there is nothing to learn from in `rows`."""
    if not rows.kept and not rows.too_long:
        raise SemError(f"{what}: there are none", "see above what was left out, and correct it")
    if not rows.kept:
        raise SemError(
            f"{what}: every one of {len(rows.too_long)} examples is longer than max_tokens",
            "raise train.max_tokens, or give dataset.yaml a smaller budget",
        )
