"""Various questions instead of one kind: kinds, difficulties, personas and topics, by seed.

Each chunk draws from shuffled decks keyed by seed and chunk, so the choice for one chunk depends
on no other chunk, on no order and on no process.
"""

from dataclasses import dataclass

KINDS = {
    "factual": "asks for one fact that the passage states",
    "how_to": "asks how something is done, step by step",
    "why": "asks for the reason behind something",
    "comparison": "asks how two things in the passage differ",
    "example": "asks for an example or for code that shows something",
    "boundary": "asks about a limit, an exception or what goes wrong",
    "definition": "asks what a term means",
}
DIFFICULTIES = {
    "easy": "a beginner can answer it from one sentence",
    "medium": "it needs two sentences put together",
    "hard": "it needs the whole passage and careful reading",
}
PERSONAS = {
    "beginner": "someone new to the subject",
    "practitioner": "someone who uses this at work and is in a hurry",
    "reviewer": "someone who checks whether a claim is right",
    "teacher": "someone who prepares an exam",
}


@dataclass(frozen=True)
class Diversity:
    """`diversity:` of forge.yaml: what questions are drawn from."""

    kinds: tuple[str, ...] = tuple(KINDS)
    difficulties: tuple[str, ...] = tuple(DIFFICULTIES)
    personas: tuple[str, ...] = tuple(PERSONAS)
    topics: bool = True  # name a heading above the chunk as the topic of a question


@dataclass(frozen=True)
class Angle:
    """How one question is to be: what a seed drew for it."""

    kind: str
    difficulty: str
    persona: str
    topic: str = ""
