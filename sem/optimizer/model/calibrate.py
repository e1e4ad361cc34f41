"""What a likelihood is worth: fitted on rewrites of families that training did not see.

Usefulness is decided by `layout.is_useful`: whole, sound layout, the task kept word for word. Half
of the prompts are asked as they are; the others are spoilt (words shuffled, letters lost, another
language), because a person's prompts are not ours, and a curve fitted on easy ones is too sure.
"""

import random
from collections.abc import Sequence

from sem.core import console
from sem.optimizer import layout
from sem.optimizer.data.pairs import Pair
from sem.optimizer.model import confidence
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewriter

BATCH = 16
SEED = 7
FOREIGN = (
    "Schreibe einen Brief an die Stadtverwaltung wegen der Baustelle",
    "fais moi un plan de voyage pour la Bretagne en septembre",
    "napisz funkcję sprawdzającą numer PESEL",
    "asdf qwer zxcv 12 ;; lkj",
    "SELECT * FROM t WHERE a = 'b' -- fix",
    '{"name": "x", "items": [1, 2, 3]} make it yaml',
    "為什麼天空是藍色的",
    "The quick brown fox jumps over the lazy dog and then it does it again and again, why?",
)
# Mean log p, whether useful, family.
Point = tuple[float, bool, str]


def calibrate(network: Rewriter, val: Sequence[Pair], count: int) -> Calibration:
    """Return the calibration of `network` on `count` prompts of `val` and their spoilt
    siblings.
    """
    prompts = calibration_prompts(val, count)
    points: list[Point] = []
    decoding = Decoding(max_tokens=256, beams=1)
    starts = range(0, len(prompts), BATCH)
    for at in console.show_progress(starts, len(starts), "calibrating"):
        part = prompts[at : at + BATCH]
        rewrites = network.rewrite([prompt for prompt, _ in part], decoding)
        for (prompt, family), rewrite in zip(part, rewrites, strict=True):
            useful = layout.is_useful(rewrite.text, prompt, rewrite.finished)
            points.append((rewrite.mean_logprob, useful, family))
    return fit_logistic(points)


def calibration_prompts(val: Sequence[Pair], count: int) -> list[tuple[str, str]]:
    """Return `count` prompts with their family, half of them spoilt, from `val` by a fixed
    seed.
    """
    dice = random.Random(SEED)
    sample = dice.sample(sorted(val, key=lambda pair: pair.id), min(count, len(val)))
    prompts = []
    for number, pair in enumerate(sample):
        prompts.append((pair.input if number % 2 == 0 else spoilt(pair.input, dice), pair.family))
    return prompts + [(prompt, f"foreign.{n}") for n, prompt in enumerate(FOREIGN)]


def spoilt(prompt: str, dice: random.Random) -> str:
    """Return `prompt` in another order, or with letters lost, or twice as long."""
    kind, words = dice.randrange(3), prompt.split()
    if kind == 0:
        dice.shuffle(words)
        return " ".join(words)
    if kind == 1:
        return "".join(letter for letter in prompt if dice.random() > 0.12) or prompt
    return f"{prompt} And {prompt[:1].lower()}{prompt[1:]} once more, but different"


def fit_logistic(points: Sequence[Point]) -> Calibration:
    """Return the logistic curve through `points`.

    Where no rewrite is useful, or every one, it is nearly flat and as sure as its number of points
    allows: the confidence of a network that writes nothing useful stays below a half. The Brier
    score is that of curves fitted without the family they are judged on.
    """
    useful = [is_useful for _, is_useful, _ in points]
    families = sorted({family for *_, family in points})
    errors = []
    for left_out in families:
        others = [p for p in points if p[2] != left_out]
        curve = _curve(others)
        for sure, was, family in points:
            if family == left_out:
                guess = confidence.likelihood(sure, Calibration(*curve, 0, 0, 0, 0.0))
                errors.append((guess - was) ** 2)
    brier = sum(errors) / len(errors)
    return Calibration(*_curve(points), len(points), sum(useful), len(families), round(brier, 4))


def _curve(points: Sequence[Point]) -> tuple[float, float]:
    """Intercept and slope; flat where every point says the same."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    likely = np.array([[sure] for sure, _, _ in points])
    useful = np.array([was for _, was, _ in points])
    # Two points of doubt, one each way: a curve is never surer than its number of points.
    likely = np.concatenate([likely, np.full((2, 1), likely.mean())])
    useful = np.concatenate([useful, [True, False]])
    model = LogisticRegression(C=1000.0).fit(likely, useful)
    return round(float(model.intercept_[0]), 6), round(float(model.coef_[0, 0]), 6)
