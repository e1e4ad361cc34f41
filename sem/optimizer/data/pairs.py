"""Pairs of a vague prompt and its rewrite, made of task families and ways of asking."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sem.core import settings
from sem.core.errors import SemError
from sem.optimizer import layout
from sem.optimizer.data import families
from sem.optimizer.data.families import SubjectPhrase, TaskFamily, capitalise_first
from sem.optimizer.layout import Layout

PHRASINGS = "configs/optimizer/phrasings.yaml"


@dataclass(frozen=True)
class PromptPair:
    """A vague prompt (`input`) and the prompt it should become (`target`)."""

    id: str
    input: str
    target: str
    category: str
    family: str
    # Pairs of one subject say the same in other words.
    subject: str = ""

    def as_json(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass(frozen=True)
class Phrasings:
    """phrasings.yaml."""

    vague: tuple[str, ...]
    full: tuple[str, ...]
    tails: tuple[str, ...]
    asides: tuple[str, ...]
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    days: tuple[str, ...]


@dataclass(frozen=True)
class PairAmounts:
    """How much of a family goes into each pair."""

    seed: int = 42
    phrasings: int = 4
    vague: int = 1
    constraints: int = 3
    steps: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.vague <= self.phrasings or self.phrasings < 1:
            raise SemError(
                f"vague {self.vague} of {self.phrasings} phrasings",
                "write 0 <= vague <= phrasings, and phrasings of 1 or more",
            )
        if min(self.constraints, self.steps) < layout.FEWEST:
            raise SemError(
                f"{self.constraints} constraints, {self.steps} steps",
                f"write {layout.FEWEST} or more of each",
            )


def load_phrasings(root: Path) -> Phrasings:
    """phrasings.yaml below `root`."""
    return settings.load_settings(Phrasings, root / PHRASINGS)


def pairs_of_family(
    family: TaskFamily, ways: Phrasings, amounts: PairAmounts
) -> Iterator[PromptPair]:
    """Yield the pairs of `family`: `amounts`.phrasings of each subject."""
    for number, text in enumerate(family.subjects):
        subject = SubjectPhrase.parse(text)
        name = f"{family.family}.{number:02}"
        dice = random.Random(f"{amounts.seed} {name}")
        parts = _parts(family, number, dice, amounts)
        prompts = _asked(family, subject, ways, dice, amounts)
        for place, (prompt, meant) in enumerate(prompts):
            target = layout.write_layout(_about(parts, meant, prompt))
            yield PromptPair(
                f"{name}.{place}", prompt, target, family.category, family.family, subject.whole
            )


def _parts(family: TaskFamily, number: int, dice: random.Random, amounts: PairAmounts) -> Layout:
    """Return the templates that all pairs of one subject share."""
    steps = sorted(dice.sample(range(len(family.steps)), min(amounts.steps, len(family.steps))))
    constraints = dice.sample(
        family.constraints, min(amounts.constraints, len(family.constraints))
    )
    return Layout(
        persona=family.persona,
        context=family.context[number % len(family.context)],
        task="",
        constraints=tuple(constraints),
        steps=tuple(family.steps[step] for step in steps),
        goal=family.goal[number // 2 % len(family.goal)],
    )


def _about(parts: Layout, subject: SubjectPhrase, prompt: str) -> Layout:
    def say(template: str) -> str:
        return families.fill_template(template, subject)

    return Layout(
        say(parts.persona),
        say(parts.context),
        prompt,
        tuple(map(say, parts.constraints)),
        tuple(map(say, parts.steps)),
        say(parts.goal),
    )


def _asked(
    family: TaskFamily,
    subject: SubjectPhrase,
    ways: Phrasings,
    dice: random.Random,
    amounts: PairAmounts,
) -> Iterator[tuple[str, SubjectPhrase]]:
    """Vague prompts about `subject`, each with the subject that it lets the reader know."""
    own = family.patterns
    vague = [] if own else _some(ways.vague, amounts.vague, dice)
    for pattern in vague:
        yield _said(pattern, family, subject.vague, ways, dice), subject.vague
    for pattern in _some(own or ways.full, amounts.phrasings - len(vague), dice):
        yield _said(pattern, family, subject, ways, dice), subject


def _some(pool: Sequence[str], count: int, dice: random.Random) -> list[str]:
    return dice.sample(pool, min(count, len(pool)))


def _said(
    pattern: str, family: TaskFamily, subject: SubjectPhrase, ways: Phrasings, dice: random.Random
) -> str:
    """Return `pattern` with everything in braces said; what stands twice is chosen twice."""
    pools = {"tail": ways.tails, "aside": ways.asides, "name": ways.names, "day": ways.days}
    pools |= {"number": tuple(map(str, ways.numbers)), "detail": family.details}
    for word in ("tail", "aside", "detail", "name", "day", "number"):
        for choice in dice.sample(pools[word], pattern.count(f"{{{word}}}")):
            pattern = pattern.replace(f"{{{word}}}", choice, 1)
    verb = dice.choice(family.verbs)
    whole, bare, head = subject.whole, subject.bare, subject.head
    words = {"verb": verb, "s": whole, "bare": bare, "head": head}
    words |= {"a_head": subject.vague.whole}
    words |= {name.capitalize(): capitalise_first(value) for name, value in words.items()}
    return pattern.format_map(words)
