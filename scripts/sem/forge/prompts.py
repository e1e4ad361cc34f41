"""What the teacher is asked about one chunk, and the pairs in its reply.

    for chunk, request, outcome in config.ask.answered(
        (chunk, prompts.request(chunk, brief, config.ask)) for chunk in chunks
    ):
        made, unusable = prompts.pairs(chunk, request, outcome, brief)
        config.skipped.extend(row.as_json() for row in unusable)
        yield from made

The chunk is a stranger's text: it stands as data between two lines with a code it cannot guess,
its control tokens broken, and the reply is taken as JSON of a strict form only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sem.forge.base import Chunk, Pair
from sem.forge.diversity import Diversity
from sem.forge.teacher import Teacher
from sem.lm.calls import Outcome, Request

VERSION = "forge-qa-1"  # raised when a prompt changes: replies to another one are not reused


@dataclass(frozen=True)
class Brief:
    """What all requests of one forge run have in common."""

    pairs: int = 3  # questions asked of each chunk
    diversity: Diversity = field(default_factory=Diversity)
    language: str | None = None  # ISO 639-1 of questions and answers; None: the chunk's own
    about: str = ""  # what the expert is for: the TaskSpec's system prompt
    answer: Mapping[str, Any] | None = None  # JSON Schema of an answer; None: {"answer": text}
    task: str | None = None
    seed: int = 42


@dataclass(frozen=True)
class Unusable:
    """A reply, or one pair of it, that cannot be used: one row of skipped.jsonl."""

    where: str  # document and Chunk.id
    reason: str  # a fault of lm.calls, or why a pair of the reply is none
    detail: str
    prompt_sha256: str
    what: str = "reply"

    def as_json(self) -> dict[str, Any]:
        """One line of skipped.jsonl."""
        return dict(vars(self))


def request(chunk: Chunk, brief: Brief, teacher: Teacher) -> Request:
    """The request for the pairs of CHUNK: the same chunk, brief and seed give the same text."""
    raise NotImplementedError


def pairs(
    chunk: Chunk, request: Request, outcome: Outcome, brief: Brief
) -> tuple[list[Pair], list[Unusable]]:
    """The pairs in OUTCOME with their provenance, and what of it is unusable.

    provenance: document_sha256, span, headings, teacher, prompt_sha256, prompt_version, kind,
    difficulty, persona, quote, and `passage` (the chunk's text, which quality checks read and
    `run` takes out before anything is written).
    """
    raise NotImplementedError
