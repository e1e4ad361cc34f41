"""Questions that were there before: nearly the same text, or nearly the same words.

Twice the exact Jaccard index of `dataset.neardup`: once of 5-grams of the question as it stands,
once of 5-grams of its content words, stemmed and sorted, so that "What does `?` do" and "Tell me
what `?` is doing" meet. What is compared against (golden and test questions) comes first, so that
a pair never pushes one of those out; of two pairs the first stays.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sem.dataset import neardup
from sem.forge.words import STOP, WORD, fold, stem

# How a question is opened tells nothing of what it is about, but for these.
ASKS = frozenset(
    "how why when where who warum wie wann wo wer comment pourquoi quand cómo".split()  # noqa: SIM905
)
OPENERS = frozenset(
    """
explain describe tell please purpose mean meaning state name give define role exactly actually
basically happens happen work works question answer
""".split()  # noqa: SIM905
)
OPENING = frozenset(map(stem, OPENERS))
SIGNS = re.compile(r"[^\w\s]+")  # `?` and `&` are what some questions are about


@dataclass(frozen=True)
class Near:
    """What a question is near to."""

    where: str  # golden, test or pair
    other: str  # that question


def near(
    questions: Sequence[str], others: Sequence[tuple[str, str]], threshold: float, words: float
) -> dict[int, Near]:
    """For each of QUESTIONS that is near an earlier one or one of OTHERS (where, question), which.

    THRESHOLD: Jaccard index of 5-grams of the text; WORDS: of its sorted content words.
    """
    texts = [text for _, text in others] + list(questions)
    found: dict[int, Near] = {}
    for spelled, least in ((texts, threshold), ([content(text) for text in texts], words)):
        clusters = neardup.of_texts(spelled, least)
        for row, head in enumerate(clusters.first):
            number = row - len(others)
            if row == head or number < 0 or number in found:
                continue
            where = others[head][0] if head < len(others) else "pair"
            found[number] = Near(where, texts[head])
    return found


def content(question: str) -> str:
    """The content words of QUESTION by their stems, sorted, each once.

    Code keeps its signs: `&mut` is not `mut`.
    """
    folded = fold(question)
    code = [part for part in re.findall(r"`([^`]*)`", folded) if SIGNS.search(part)]
    words = {stem(word) for word in WORD.findall(folded) if word not in STOP or word in ASKS}
    return " ".join(sorted((words - OPENING) | {"".join(part.split()) for part in code}))
