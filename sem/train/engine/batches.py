"""The order rows are trained in, and rows as padded tensors."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

IGNORED = -100


@dataclass
class BatchOrder:
    """Sampler: random optimizer batches, each sorted by length so that little is padding.

    The order depends on `seed` and the epoch alone, so that a resumed run sees the same batches.
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
    """Right-pads sequences to the longest of a micro-batch, rounded up to a multiple.

    oneDNN compiles a kernel for every new shape; unrounded widths cost several times the work.
    Takes records {number, ids, prompt, weights} or pairs of them {chosen, rejected, reference};
    gives input_ids, attention_mask, labels and weights of shape (sequences, width), where the
    chosen halves of pairs stand before the rejected ones. `number` names the rows.
    """

    pad: int
    round_to: int = 64

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        sides = [side for side in ("chosen", "rejected") if side in records[0]]
        rows = [record[side] for side in sides for record in records] or records
        tensors = self.padded(rows) | {"number": torch.tensor([r["number"] for r in records])}
        if sides and "reference" in records[0]:
            tensors["reference"] = torch.tensor([r["reference"] for r in records])
        return tensors

    def padded(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return `rows` as tensors, prompt and answer in one sequence."""
        import torch

        width = _rounded(max(len(row["ids"]) for row in rows), self.round_to)
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), width), IGNORED)
        weights = torch.zeros((len(rows), width))
        for place, row in enumerate(rows):
            prompt, size = row["prompt"], len(row["ids"])
            ids[place, :size] = torch.tensor(row["ids"])
            mask[place, :size] = 1
            labels[place, prompt:size] = ids[place, prompt:size]
            row_weights = row["weights"]
            weights[place, prompt:size] = 1.0 if row_weights is None else torch.tensor(row_weights)
        # The first token is predicted by nothing: a text without a prompt has no loss there.
        labels[:, 0], weights[:, 0] = IGNORED, 0.0
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "weights": weights}


@dataclass(frozen=True)
class Seq2SeqCollator(Collator):
    """The same for an encoder and a decoder: the prompt goes in, the answer is labelled."""

    def padded(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return `rows` as tensors of two widths: input_ids the prompts, labels the answers."""
        import torch

        prompts = [row["ids"][: row["prompt"]] for row in rows]
        answers = [row["ids"][row["prompt"] :] for row in rows]
        width = _rounded(max(map(len, prompts)), self.round_to)
        room = _rounded(max(map(len, answers)), self.round_to)
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), room), IGNORED)
        weights = torch.zeros((len(rows), room))
        for place, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            ids[place, : len(prompt)] = torch.tensor(prompt)
            mask[place, : len(prompt)] = 1
            labels[place, : len(answer)] = torch.tensor(answer)
            row_weights = rows[place]["weights"]
            weights[place, : len(answer)] = (
                1.0 if row_weights is None else torch.tensor(row_weights)
            )
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "weights": weights}


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
