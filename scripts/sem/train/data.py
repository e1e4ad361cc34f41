"""Examples as token ids: the prompt unlabelled, the answer and its end of turn labelled."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.taskspec import TaskSpec, as_text
from sem.lm.chat import Chat

IGNORED = -100


@dataclass(frozen=True)
class Row:
    """One training sequence: the first `prompt` ids carry no loss."""

    id: str
    ids: tuple[int, ...]
    prompt: int


@dataclass(frozen=True)
class Rows:
    """What is trained on, and the ids of examples left out because they are too long."""

    kept: tuple[Row, ...]
    too_long: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        return {
            "examples": len(self.kept),
            "too_long": len(self.too_long),
            "tokens": sum(len(row.ids) for row in self.kept),
            "trained_tokens": sum(len(row.ids) - row.prompt for row in self.kept),
        }


def encode(
    examples: Iterable[Example], tasks: dict[str, TaskSpec], chat: Chat, max_tokens: int
) -> Rows:
    """Rows of EXAMPLES in order; one with more than MAX_TOKENS is left out and named."""
    kept, too_long = [], []
    for example in examples:
        row = _row(example, tasks[example.task], chat)
        if len(row.ids) > max_tokens:
            too_long.append(example.id)
        else:
            kept.append(row)
    return Rows(tuple(kept), tuple(too_long))


def sample(rows: Rows, count: int | None, seed: int) -> Rows:
    """COUNT rows chosen by SEED, in id order; all of them when COUNT is None."""
    if count is None or count >= len(rows.kept):
        return rows
    chosen = random.Random(seed).sample(sorted(rows.kept, key=lambda r: r.id), count)
    return Rows(tuple(sorted(chosen, key=lambda r: r.id)), rows.too_long)


def check(rows: Rows, what: str) -> None:
    """SemError when there is nothing to learn from in ROWS."""
    if not rows.kept:
        raise SemError(
            f"{what}: every one of {len(rows.too_long)} examples is longer than max_tokens",
            "raise train.max_tokens, or give dataset.yaml a smaller budget",
        )
    untrained = [row.id for row in rows.kept if row.prompt >= len(row.ids)]
    if untrained:
        raise SemError(f"{what}: {untrained[0]} has no trained tokens", "report this example")


def _row(example: Example, spec: TaskSpec, chat: Chat) -> Row:
    system = example.system_prompt or spec.system_prompt
    prompt = chat.prompt_ids(system, spec.prompt(example.input_text))
    answer = chat.answer_ids(as_text(example.output_json))
    return Row(example.id, (*prompt, *answer), len(prompt))


@dataclass
class BatchOrder:
    """Sampler: random optimizer batches, each sorted by length so that little is padding.

    The order depends on SEED and the epoch alone, so that a resumed run sees the same batches.
    """

    lengths: Sequence[int]
    effective: int
    seed: int
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.lengths)))
        random.Random(self.seed * 1_000_003 + self.epoch).shuffle(order)
        for start in range(0, len(order), self.effective):
            batch = order[start : start + self.effective]
            yield from sorted(batch, key=lambda i: (self.lengths[i], i))


@dataclass(frozen=True)
class Collator:
    """Right-pads rows to the longest of a micro-batch, rounded up to a multiple of `round_to`.

    oneDNN compiles a kernel for every new shape; unrounded widths cost several times the work.
    """

    pad: int
    round_to: int = 64

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        width = _rounded(max(len(row["input_ids"]) for row in rows), self.round_to)
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), width), IGNORED)
        for number, row in enumerate(rows):
            size = len(row["input_ids"])
            ids[number, :size] = torch.tensor(row["input_ids"])
            mask[number, :size] = 1
            labels[number, row["prompt"] : size] = ids[number, row["prompt"] : size]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
