"""Questions that were there before: nearly the same text, or nearly the same words.

First the exact Jaccard index of 5-grams (`dataset.neardup`) of the question as it stands. Then the
exact Jaccard index of its content words by their stems, so that "What does `?` do" and "Tell me
what `?` is doing" meet. 5-grams of those words would not do: "cargo" and "error" have much in
common. What is compared against (golden and test questions) comes first, so that a pair never
pushes one of those out; of two pairs the first stays.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sem.dataset.clean import near_duplicates
from sem.forge.content_words import STOP, WORD, fold_case, stem

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
# `?` and `&` are what some questions are about.
SIGNS = re.compile(r"[^\w\s]+")


@dataclass(frozen=True)
class Near:
    """What a question is near to."""

    where: str  # golden, test or pair
    other: str  # that question


def near(
    questions: Sequence[str], others: Sequence[tuple[str, str]], threshold: float, words: float
) -> dict[int, Near]:
    """For each of `questions` that is near an earlier one or one of `others` (where, question),
    which.

    `threshold`: Jaccard index of 5-grams of the text; `words`: of its content words.
    """
    texts = [text for _, text in others] + list(questions)
    first = near_duplicates.of_texts(texts, threshold).first
    by_words = _by_words([question_stems(text) for text in texts], words)
    neighbours: dict[int, Near] = {}
    for row in range(len(others), len(texts)):
        head = first[row] if first[row] != row else by_words.get(row)
        if head is not None:
            where = others[head][0] if head < len(others) else "pair"
            neighbours[row - len(others)] = Near(where, texts[head])
    return neighbours


def _by_words(sets: Sequence[frozenset[str]], least: float) -> dict[int, int]:
    """For each row the first earlier one whose set agrees with its own by `least` (Jaccard).

    Two such sets share one of their rarest words, of each so many as could be missing and one
    more (prefix filtering, Bayardo et al. 2007), so only those are looked up.
    """
    rarity = Counter(word for row_words in sets for word in row_words)
    rows_of: dict[str, list[int]] = defaultdict(list)
    heads: dict[int, int] = {}
    for row, own in enumerate(sets):
        ordered = sorted(own, key=lambda word: (rarity[word], word))
        rarest = ordered[: len(own) - math.ceil(least * len(own)) + 1]
        near = sorted({other for word in rarest for other in rows_of[word]})
        head = next((o for o in near if _jaccard(own, sets[o]) >= least), None)
        if head is not None:
            heads[row] = head
        for word in rarest if head is None else ():
            rows_of[word].append(row)
    return heads


def _jaccard(own: frozenset[str], other: frozenset[str]) -> float:
    return len(own & other) / len(own | other)


def question_stems(question: str) -> frozenset[str]:
    """Return the content words of `question` by their stems; code keeps its signs.

    `&mut` is not `mut`.
    """
    folded = fold_case(question)
    code = [part for part in re.findall(r"`([^`]*)`", folded) if SIGNS.search(part)]
    words = {stem(word) for word in WORD.findall(folded) if word not in STOP or word in ASKS}
    return frozenset((words - OPENING) | {"".join(part.split()) for part in code})
