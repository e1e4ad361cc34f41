"""Various questions instead of one kind: kinds, difficulties, personas and topics, by seed.

Each chunk draws from decks shuffled by seed and chunk, so the choice for one chunk depends on no
other chunk, on no order and on no process; over many chunks every card comes up about as often.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from sem.core.errors import SemError, suggest_nearest_name
from sem.forge.base import Chunk

KINDS = {
    "factual": "asks for one fact",
    "how_to": "asks how something is done, step by step",
    "why": "asks for the reason behind something",
    "comparison": "asks how two things differ",
    "definition": "asks what a term means",
    "example": "asks for an example of something",
    "code": "asks for code, or what a piece of code does",
    "boundary": "asks about a limit, an exception or what goes wrong",
}
DIFFICULTIES = {
    "easy": "a beginner finds the answer in one sentence",
    "medium": "the answer takes two sentences together",
    "hard": "the answer takes the whole passage and careful reading",
}
PERSONAS = {
    "beginner": "someone new to the subject",
    "practitioner": "someone who uses it at work and is in a hurry",
    "reviewer": "someone who checks whether a claim is right",
    "examiner": "someone who prepares an exam",
}
# What is done to a heading, so that two questions under it differ in more than their words.
MUTATIONS = (
    "{heading}",
    "a common mistake about {heading}",
    "when {heading} is the right choice",
    "what {heading} has to do with {parent}",
    "the words used for {heading}",
)
CODE = ("```", "\n    ", "\n\t", "<code", "`")


@dataclass(frozen=True)
class Diversity:
    """`diversity:` of forge.yaml: what questions are drawn from; fewer cards, less variety."""

    kinds: tuple[str, ...] = tuple(KINDS)
    difficulties: tuple[str, ...] = tuple(DIFFICULTIES)
    personas: tuple[str, ...] = tuple(PERSONAS)
    # Turn a heading above the chunk into the topic of a question.
    topics: bool = True

    def __post_init__(self) -> None:
        for field, table in DECKS.items():
            names = getattr(self, field)
            if not names:
                raise SemError(f"diversity.{field} is empty", f"name some of {', '.join(table)}")
            for name in names:
                if name not in table:
                    raise SemError(
                        f"diversity.{field}: {name!r} is unknown",
                        suggest_nearest_name(name, table),
                    )


DECKS = {"kinds": KINDS, "difficulties": DIFFICULTIES, "personas": PERSONAS}


@dataclass(frozen=True)
class QuestionAngle:
    """How one question is to be: what a seed drew for it."""

    kind: str
    difficulty: str
    persona: str
    topic: str = ""

    def __str__(self) -> str:
        """Return what the teacher is told."""
        text = (
            f"{KINDS[self.kind]}; {self.difficulty}: {DIFFICULTIES[self.difficulty]}; "
            f"asked by {PERSONAS[self.persona]}"
        )
        return f"{text}; about {self.topic}" if self.topic else text


def draw_angles(chunk: Chunk, count: int, diversity: Diversity, seed: int) -> list[QuestionAngle]:
    """Return `count` angles for `chunk`; code is asked for only where there is some."""
    dice = random.Random(f"{seed} {chunk.id}")
    has_code = any(sign in chunk.text for sign in CODE)
    kinds = [kind for kind in diversity.kinds if kind != "code" or has_code] or ["factual"]
    hands = [_dealt(dice, cards, count) for cards in (kinds, *_others(diversity))]
    topics = _topics(dice, chunk.headings, count) if diversity.topics else [""] * count
    return [QuestionAngle(*cards) for cards in zip(*hands, topics, strict=True)]


def _others(diversity: Diversity) -> tuple[Sequence[str], Sequence[str]]:
    return diversity.difficulties, diversity.personas


def _dealt(dice: random.Random, cards: Sequence[str], count: int) -> list[str]:
    """Return `count` of `cards`, each once before any comes twice."""
    return list(islice(cycle(dice.sample(list(cards), len(cards))), count))


def _topics(dice: random.Random, headings: Sequence[str], count: int) -> list[str]:
    """Return the chunk's own heading for the first question, headings turned over for the
    others.
    """
    if not headings:
        return [""] * count
    own, parent = headings[-1], headings[-2] if len(headings) > 1 else ""
    ways = [way for way in MUTATIONS[1:] if parent or "{parent}" not in way]
    mutations = [MUTATIONS[0], *_dealt(dice, ways, max(0, count - 1))]
    return [way.format(heading=f'"{own}"', parent=f'"{parent}"') for way in mutations[:count]]
