"""Words of a text as they are compared: content words by their stems, stop words left out.

Rough on purpose: the same six letters are the same word, in any language that is written with
spaces; Chinese, Japanese and Korean are compared by pairs of signs.
"""

import re
import unicodedata

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
# Letters that tell two words apart; with more, "borrowing" is not in "borrows".
STEM = 6
# English, German, French and Spanish.
STOP = frozenset(
    """
a about after all also an and any are as at be because been before being both but by can could
did do does doing down each either else few for from had has have having he her here his how i
if in into is it its just like may me might more most must my no nor not now of off on once one
only or other our out over own per same she should since so some such than that the their them
then there these they this those through thus to too under until up upon us use used uses using
very via was we were what when where whether which while who whose why will with within without
would yes yet you your
aber als am an auch auf aus bei bis da damit dann das dass dem den der des die dies diese
dieser dieses doch durch ein eine einem einen einer eines er es euch für hat haben hier ihr im
in ist ja kann kein keine man mehr mit nach nicht noch nur oder ohne sein sich sie sind so um
und uns unter vom von vor war was weil wenn werden wie wir wird wo zu zum zur über
au aux avec ce ces cette dans de des du elle elles en est et il ils je la le les leur leurs lui
mais ne nous on ou par pas pour qu que qui sa se ses son sont sur un une vos votre vous à été
être al como con del el ella entre es esta este esto lo los las más no para pero por porque si
sin sobre su sus también una y
""".split()  # noqa: SIM905
)
NUMBERS = dict(
    zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13))  # noqa: B905, SIM905
)


def content_stems(text: str) -> list[str]:
    """Return the stems of the content words of `text`, code included, in order."""
    folded = fold_case(text)
    words = [word for word in WORD.findall(folded) if not CJK.search(word)]
    word_stems = [stem_word(word) for word in words if word not in STOP and len(word) > 2]
    for run in CJK.findall(folded):
        word_stems += [run[n : n + 2] for n in range(max(1, len(run) - 1))]
    return word_stems


def stem_word(word: str) -> str:
    """Return `word` without its ending, `s` and `e` aside."""
    word = word.removesuffix("'s").removesuffix("\u2019s")
    if len(word) > STEM:
        return word[:STEM].removesuffix("e")
    if len(word) > 3:
        word = word if word.endswith("ss") else word.removesuffix("s")
    return word.removesuffix("e") if len(word) > 3 else word


def fold_case(text: str) -> str:
    """Return `text` without the differences of case and of compatible characters."""
    return unicodedata.normalize("NFKC", text).casefold()


def token_f1(text: str, other: str) -> float:
    """Token F1 of two texts by their stems (SQuAD, Rajpurkar et al. 2016); 1.0 when both are bare.

    Symmetric: 2 * shared / (all of one + all of the other), repeats counted.
    """
    a, b = content_stems(text), content_stems(other)
    if not a or not b:
        return float(fold_case(text).split() == fold_case(other).split())
    remaining, shared = list(b), 0
    for word in a:
        if word in remaining:
            remaining.remove(word)
            shared += 1
    return 2 * shared / (len(a) + len(b))
