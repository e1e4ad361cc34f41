"""Task families: what a person asks for, and what a good prompt says about it.

configs/optimizer/families/CATEGORY.yaml holds a list of them, written by hand. Templates speak of
a subject as {s} (as written), {the} (its head, definite), {bare} (its head) or, at the start of a
sentence, {S} and {The}; the verb after these two agrees with it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from sem.core import settings
from sem.core.errors import SemError

FOLDER = "configs/optimizer/families"
# Between a subject's head and what only describes it.
SPLIT = " | "
ARTICLE = re.compile(r"(an?|the) (.+)")
# Heads without an article that end in s and are one thing all the same.
SINGULAR = ("ss", "sis", "tectonics")
AGREES = {"is": "are", "has": "have", "does": "do", "goes": "go"}
VERB = re.compile(r"\{(The|S|the)\} ([a-z]+)\b")
FEWEST_SUBJECTS = 6


@dataclass(frozen=True)
class SubjectPhrase:
    """A noun phrase: "a function" that "parses dates"."""

    # a, an, the or nothing.
    article: str
    head: str
    rest: str = ""

    @classmethod
    def parse(cls, text: str) -> "SubjectPhrase":
        """Return the subject that `text` (`a function | that parses dates`) means."""
        first, _, rest = text.partition(SPLIT)
        match = ARTICLE.fullmatch(first)
        return cls(match[1], match[2], rest) if match else cls("", first, rest)

    @property
    def whole(self) -> str:
        """As it is written: "a function that parses dates"."""
        return " ".join(part for part in (self.article, self.head, self.rest) if part)

    @property
    def bare(self) -> str:
        """Without its article."""
        return f"{self.head} {self.rest}".strip()

    @property
    def vague(self) -> "SubjectPhrase":
        """Return its head alone."""
        return SubjectPhrase(self.article, self.head)

    @property
    def is_plural(self) -> bool:
        if self.article:
            return False
        last = self.head.split()[-1]
        return " and " in self.head or (last.endswith("s") and not last.endswith(SINGULAR))


@dataclass(frozen=True)
class TaskFamily:
    """What is alike in all requests of one kind."""

    family: str
    persona: str
    verbs: tuple[str, ...]
    subjects: tuple[str, ...]
    context: tuple[str, ...]
    constraints: tuple[str, ...]
    steps: tuple[str, ...]
    goal: tuple[str, ...]
    details: tuple[str, ...]
    category: str = ""  # the name of its file
    # Ways of asking, where phrasings.yaml does not fit.
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("subjects", FEWEST_SUBJECTS), ("constraints", 3), ("steps", 3)):
            items = getattr(self, name)
            if len(items) < least or len(set(items)) < len(items):
                raise SemError(
                    f"family {self.family}: {len(set(items))} different {name}",
                    f"write {least} or more, each once",
                )
        if not self.persona.startswith(("a ", "an ", "{s}")):
            raise SemError(
                f"family {self.family}: persona {self.persona!r} has no article",
                "write it as `a careful editor`",
            )


def load_families(root: Path) -> list[TaskFamily]:
    """Return every family below `root` in order of its name.

    Raise SemError when a name appears twice.
    """
    by_name: dict[str, TaskFamily] = {}
    paths = sorted((root / FOLDER).glob("*.yaml"))
    if not paths:
        raise SemError(f"{root / FOLDER}: no families", "restore the folder with git")
    for path in paths:
        for values in settings.read_yaml(path) or []:
            family = settings.build_settings(
                TaskFamily, {"category": path.stem, **values}, str(path)
            )
            if family.family in by_name:
                raise SemError(f"{path}: family {family.family!r} appears twice", "rename one")
            by_name[family.family] = family
    return [by_name[name] for name in sorted(by_name)]


def fill_template(template: str, subject: SubjectPhrase) -> str:
    """Return `template` about `subject`, its verbs agreeing."""
    if subject.is_plural:
        template = VERB.sub(_plural, template)
    definite = f"the {subject.head}"
    words = {"s": subject.whole, "the": definite, "bare": subject.head}
    words |= {"S": capitalise_first(subject.whole), "The": capitalise_first(definite)}
    return template.format_map(words)


def capitalise_first(text: str) -> str:
    """Return `text` with its first letter a capital."""
    return text[:1].upper() + text[1:]


def _plural(match: re.Match[str]) -> str:
    word, verb = match[1], match[2]
    if verb in AGREES:
        return f"{{{word}}} {AGREES[verb]}"
    # After "the", mid-sentence, a word in -s is as often an adverb: "reads {the} afterwards".
    drops = word != "the" and verb.endswith("s") and not verb.endswith("ss")
    return f"{{{word}}} {verb[:-1] if drops else verb}"
