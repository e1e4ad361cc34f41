"""Generator: prompts in, answers out, whatever runs the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Prompt:
    """What one call sends: token ids of the rendered prompt and how long the answer may be.

    `schema` is the text of a JSON Schema that the answer is held to while it is decoded.
    """

    ids: tuple[int, ...]
    max_new_tokens: int
    schema: str | None = None


@dataclass(frozen=True)
class Completion:
    """What came back. `finish` is stop, length, refused (the prompt does not fit) or closed.

    A closed answer ran out of room and was made to end by the shortest text that fits.
    """

    text: str
    finish: str
    tokens_out: int
    # Of a generator that measures: where each token ends in `text`, in characters, and how
    # probable it was among those that the schema allowed.
    ends: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()


class Generator(Protocol):
    """Greedy answers to a batch of prompts, in order."""

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]: ...
