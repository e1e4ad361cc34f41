"""Pairs of a right and a wrong answer, for preference training."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sem.core import jsonio
from sem.core.example import Example
from sem.train.rows.data import RowWriter, TrainingRow, draw_by_seed


@dataclass(frozen=True)
class PreferencePair:
    """One prompt with its chosen and its rejected answer."""

    id: str
    chosen: TrainingRow
    rejected: TrainingRow

    @property
    def length(self) -> int:
        """Tokens of both sides."""
        return self.chosen.length + self.rejected.length

    @property
    def longest(self) -> TrainingRow:
        """Return the longer side."""
        return max(self.chosen, self.rejected, key=lambda row: row.length)


@dataclass(frozen=True)
class PreferencePairs:
    """What is trained on, and the ids of pairs left out because they are too long."""

    kept: tuple[PreferencePair, ...]
    too_long: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        return {
            "pairs": len(self.kept),
            "too_long": len(self.too_long),
            "tokens": sum(pair.length for pair in self.kept),
            "trained_tokens": sum(p.chosen.trained + p.rejected.trained for p in self.kept),
        }


def encode_pairs(rows: Iterable[dict[str, Any]], writer: RowWriter) -> PreferencePairs:
    """Return `rows` (`negatives.pairs`) encoded, in order.

    One side beyond max_tokens leaves it out.
    """
    pairs, too_long = [], []
    for number, row in enumerate(rows):
        name = f"{row['id']}#{number:06}"
        pair = _pair(name, row, writer)
        if pair.longest.length > writer.recipe.max_tokens:
            too_long.append(name)
        else:
            pairs.append(pair)
    return PreferencePairs(tuple(pairs), tuple(too_long))


def sample_pairs(pairs: PreferencePairs, count: int | None, seed: int) -> PreferencePairs:
    """Return `count` pairs chosen by `seed`; all of them when `count` is None."""
    if count is None or count >= len(pairs.kept):
        return pairs
    return PreferencePairs(tuple(draw_by_seed(pairs.kept, count, seed)), pairs.too_long)


def _pair(name: str, row: dict[str, Any], writer: RowWriter) -> PreferencePair:
    fields = {n: row[n] for n in ("system_prompt", "slot_specs", "source_id") if n in row}
    right = jsonio.parse_json(row["chosen"])
    example = Example(row["id"], row["task"], row["input_text"], right, **fields)
    prompt = writer.prompt(example)
    sides = (writer.chat.answer_ids(row[side]) for side in ("chosen", "rejected"))
    good, bad = (
        TrainingRow(name, (*prompt, *ids), len(prompt), None, row["task"]) for ids in sides
    )
    return PreferencePair(name, good, bad)
