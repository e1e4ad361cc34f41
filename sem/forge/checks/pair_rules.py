"""What speaks against a pair by its own text: length, language, refusal, leak, loops, secrets.

Each rule is a function of a Case that gives the reason to drop it, or None.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from sem.dataset.clean import grounding
from sem.forge.base import Pair
from sem.forge.language import detect_language
from sem.forge.teacher.prompts import PASSAGE
from sem.lm.api import redact

REFUSAL = re.compile(
    r"\A\W*(?:i['\u2019]?m (?:really |very )?sorry|i am sorry|sorry,|i apologi[sz]e"
    r"|i can(?:no|['\u2019])t"
    r"|i can not|i(?:['\u2019]m| am) (?:unable|not able)|i (?:won['\u2019]t|will not) |as an ai\b"
    r"|as a (?:large )?language model|es tut mir leid|ich kann (?:das|diese|ihnen|dir)? ?nicht"
    r"|je suis désolé|je ne peux pas|lo siento|no puedo |申し訳|すみません|抱歉|对不起)",
    re.I,
)
_TEXT = "(?:passage|text|document|excerpt|context)"
NO_ANSWER = re.compile(
    r"\b(?:(?:is|are|was|were)(?: not|n['\u2019]t) (?:specified|mentioned|stated|provided|given|"
    rf"described|discussed) in the|{_TEXT} (?:does|do)(?: not|n['\u2019]t)|"
    rf"not (?:specified|mentioned|stated|provided) (?:in|by) the {_TEXT}|"
    r"no information (?:is|was) (?:given|provided))"
    # Not "None": that is an answer about Rust.
    r"|\A\W*(?:n/a|not applicable|not specified|not mentioned)\W*\Z",
    re.I,
)
_SOURCE = "(?:passage|text|excerpt|document|article|section|chapter|paragraph|author|context)"
LEAK = re.compile(
    r"\b(?:(?:according to|based on|as (?:stated|mentioned|described|shown|explained) (?:in|by)) "
    rf"(?:the|this|that) (?:\w+ )?{_SOURCE}\b"
    r"|(?:in|from|per|by) (?:the|this|that) (?:\w+ )?(?:passage|excerpt|section|chapter|author)\b"
    rf"|the {_SOURCE}s? (?:\w+ )?(?:says?|states?|mentions?|describes?|explains?|discuss(?:es)?|"
    r"suggests?|emphasi[sz]es?)\b"
    r"|the (?:provided|given|above) (?:passage|text|excerpt|document|context|information)\b"
    r"|as an ai\b|as a (?:large )?language model\b"
    r"|(?:laut|gemäß) (?:dem|diesem) (?:text|abschnitt|dokument|artikel)"
    r"|im (?:obigen )?(?:text|abschnitt) (?:wird|steht|heißt)"
    r"|(?:selon|d['\u2019]après) (?:le|ce|la|cette) (?:texte|passage|document|article|section)"
    r"|según (?:el|este) (?:texto|pasaje|documento))"
    r"|(?:文章|本文|文書|テキスト)(?:によると|では|に書)|根据(?:文章|本文|上文|文中)",
    re.I,
)
_SHOWN = (
    "(?:section|chapter|passage|paragraph|excerpt|listing|figure|table|snippet|example|code|text|"
    "document|article|lesson|function|program|method|output|line|list|image|diagram|definition)s?"
)
# What only someone who sees the passage can understand.
POINTS = re.compile(
    rf"\b(?:this|these|that) (?:\w+ )?{_SHOWN}\b"
    rf"|\bthe (?:\w+ )?{_SHOWN} (?:above|below|shown|given|provided)\b"
    r"|\bthe (?:above|below|following|preceding|given|provided|aforementioned) \w+"
    r"|\b(?:listing|figure|table|example|section|chapter) \d+(?:[.\-\u2013]\d+)*\b"
    r"|\bmentioned (?:above|below|here|earlier)\b|\bthe (?:author|passage|speaker)s?\b"
    r"|\b(?:dieser|diesem|diesen|dieses) (?:abschnitt|text|kapitel|beispiel|code)s?\b"
    r"|\b(?:ce|cette|cet) (?:section|texte|chapitre|exemple|code|passage)\b"
    r"|(?:この(?:章|節|文章|例|コード|セクション)|上記の|以下の)",
    re.I,
)
BLOCK = re.compile(r"```|\n {4}\S")
# Words that come again and again.
LOOP = 4
# Share of such runs of words that came before: small models get stuck.
LOOPED = 0.5
# Words from which on a text can be told to loop.
FEWEST = 24


@dataclass(frozen=True)
class Case:
    """A pair and what the rules read of it."""

    pair: Pair
    # The language it is to be in; None: any.
    expected: str | None

    @property
    def question(self) -> str:
        return self.pair.prompt

    @cached_property
    def answer(self) -> str:
        """Return the texts of the answer, one a line."""
        return "\n".join(str(value) for _, value in grounding.scalar_leaves(self.pair.output))

    @property
    def both(self) -> str:
        return f"{self.question}\n{self.answer}"


@dataclass(frozen=True)
class Lengths:
    """How long a question and an answer may be, in characters."""

    min_question: int
    max_question: int
    min_answer: int
    max_answer: int


def length(case: Case, least: Lengths) -> str | None:
    """Return whether question and answer are within their lengths."""
    for name, text in (("question", case.question), ("answer", case.answer)):
        size = len(text.strip())
        if size < getattr(least, f"min_{name}"):
            return f"{name}_too_short"
        if size > getattr(least, f"max_{name}"):
            return f"{name}_too_long"
    return None


def secret(case: Case) -> str | None:
    """Return a key that a provider echoed, or what looks like one."""
    text = case.both
    return "secret" if redact.MASK in text or redact.redacted(text) != text else None


def refusal(case: Case) -> str | None:
    """Return the teacher declined, in the question or in the answer."""
    return "refusal" if any(map(REFUSAL.search, (case.question, case.answer))) else None


def no_answer(case: Case) -> str | None:
    """Return the reason to drop a pair whose answer says that there is none."""
    return "no_answer" if NO_ANSWER.search(case.answer) else None


def leak(case: Case) -> str | None:
    """Question or answer speaks of the passage, or of being a model."""
    return "leak" if any(map(LEAK.search, (case.question, case.answer))) else None


def standalone(case: Case) -> str | None:
    """Return the question points at something that only the passage shows."""
    # With the code in the question, "this code" points at that.
    if BLOCK.search(case.question) or case.pair.input:
        return None
    return "not_standalone" if POINTS.search(case.question) else None


def loop(case: Case) -> str | None:
    """Return the answer repeats itself, or only the question."""
    question_words, answer_words = (
        text.casefold().split() for text in (case.question, case.answer)
    )
    if question_words == answer_words:
        return "answer_is_question"
    runs = [tuple(answer_words[n : n + LOOP]) for n in range(len(answer_words) - LOOP + 1)]
    is_stuck = len(answer_words) >= FEWEST and len(set(runs)) < (1 - LOOPED) * len(runs)
    return "loop" if is_stuck else None


def tongue(case: Case) -> str | None:
    """Question or answer is in another language than expected; too little text is in none."""
    if case.expected is None:
        return None
    languages = [detect_language(text) for text in (case.question, case.answer)]
    return (
        "wrong_language"
        if any(language not in (None, case.expected) for language in languages)
        else None
    )


RULES: dict[str, Callable[[Case], str | None]] = {
    "secret": secret,
    "refusal": refusal,
    "no_answer": no_answer,
    "leak": leak,
    "standalone": standalone,
    "loop": loop,
    "language": tongue,
}


def expected(pair: Pair, setting: str) -> str | None:
    """Return the language `pair` is to be in, as `setting` says.

    Same (as its passage), any, or a code.
    """
    if setting == "any":
        return None
    return detect_language(str(pair.provenance.get(PASSAGE, ""))) if setting == "same" else setting
