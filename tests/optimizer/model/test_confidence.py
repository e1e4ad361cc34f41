"""Confidence: a likelihood, calibrated on families that training did not see."""

import random

import pytest

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.optimizer.data.pairs import PromptPair
from sem.optimizer.model import confidence, optimizer_train
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewrite
from tests.optimizer.test_layout import PROMPT, changed

WORTH = Calibration(4.0, 10.0, 50, 25, 5, 0.1)
GOOD = changed()


def points(count: int, cut: float = -0.4) -> list[optimizer_train.Point]:
    """Rewrites of eight families: those likelier than `cut` are useful, but for some noise."""
    dice = random.Random(1)
    made = []
    for number in range(count):
        sure = -dice.random()
        useful = (sure > cut) != (dice.random() < 0.05)
        made.append((sure, useful, f"family{number % 8}"))
    return made


def test_a_likelier_rewrite_is_trusted_more():
    fitted = optimizer_train.fit_logistic(points(160))
    values = [confidence.calibrated_likelihood(-n / 10, fitted) for n in range(11)]

    assert values == sorted(values, reverse=True)
    assert confidence.calibrated_likelihood(-0.1, fitted) > 0.8
    assert confidence.calibrated_likelihood(-0.9, fitted) < 0.2
    assert confidence.calibrated_likelihood(-0.4, fitted) == pytest.approx(0.5, abs=0.15)
    assert (fitted.rows, fitted.families) == (160, 8)
    assert fitted.brier < 0.12


def test_the_brier_score_is_that_of_families_left_out():
    # Two families that say the opposite of each other: known to the curve, unknown to its score.
    told = [(-0.2, True, "a")] * 20 + [(-0.2, False, "b")] * 20

    assert optimizer_train.fit_logistic(told).brier > 0.8


def test_a_network_that_is_never_useful_is_calibrated_to_doubt():
    # The training ended in an error here, unsealed, although its adapter was there.
    fitted = optimizer_train.fit_logistic([(-0.5, False, "a"), (-0.4, False, "b")] * 6)

    assert (fitted.useful, fitted.rows) == (0, 12)
    assert confidence.calibrated_likelihood(-0.1, fitted) < 0.2
    assert fitted.brier < 0.05


def test_a_network_that_is_never_useful_is_whole_and_not_promoted(tmp_path):
    fitted = optimizer_train.fit_logistic([(-0.5, False, "a"), (-0.4, False, "b")] * 6)
    path = tmp_path / optimizer_train.HOME / "r1" / confidence.FILE
    files.write_file(path, jsonio.pretty_json(fitted.as_json()))

    with pytest.raises(SemError, match="r1 is not promoted: none of 12 rewrites is useful"):
        optimizer_train.promote_optimizer(tmp_path, "r1")


def test_one_that_is_always_useful_is_still_doubted_a_little():
    sure = confidence.calibrated_likelihood(
        -0.5, optimizer_train.fit_logistic([(-0.5, True, "a"), (-0.6, True, "b")] * 20)
    )

    assert 0.9 < sure < 1.0


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        (GOOD, False),
        (PROMPT, True),
        ("", True),
        ("Act as a chef and " + PROMPT, True),
        (changed(task="write a function that parses times"), True),
        (changed(constraints=tuple(f"Be very precise in case {n}" for n in range(8))), True),
    ],
)
def test_a_useless_rewrite_is_never_shown_however_likely(text, finished):
    assert confidence.rewrite_confidence(Rewrite(text, -0.001, 9, finished), PROMPT, WORTH) <= 0.5


@pytest.mark.parametrize(("text", "floor"), [(GOOD, 0.5), (PROMPT, 0.0)])
def test_the_checks_decide_the_half_and_the_likelihood_the_place_in_it(text, floor):
    for value in (-0.1, -0.9):
        found = confidence.rewrite_confidence(Rewrite(text, value, 9, True), PROMPT, WORTH)
        assert found == pytest.approx(floor + confidence.calibrated_likelihood(value, WORTH) / 2)


def test_confidence_stays_within_0_and_1():
    steep = Calibration(0.0, 1e6, 1, 1, 1, 0.0)
    values = [
        confidence.rewrite_confidence(Rewrite(GOOD, v, 9, True), PROMPT, steep)
        for v in (-1e9, 0.0, -0.1)
    ]

    assert all(0 <= value <= 1 for value in values)


class Parrot:
    """A rewriter of its own kind: good where a prompt begins with a letter it knows."""

    limit = 128

    def count(self, prompt: str) -> int:
        return len(prompt.split())

    def rewrite(self, prompts: list[str], _: Decoding) -> list[Rewrite]:
        return [
            Rewrite(changed(task=p), -0.1, 9, True)
            if p.startswith("write")
            else Rewrite(p, -0.9, 9, True)
            for p in prompts
        ]


def test_calibration_asks_plain_spoilt_and_foreign_prompts():
    val = [
        PromptPair(f"f{n % 4}.{n}", f"write poem {n}", "", "writing", f"f{n % 4}")
        for n in range(40)
    ]
    asked = optimizer_train.calibration_prompts(val, 40)
    fitted = optimizer_train.fit_calibration(Parrot(), val, 40)

    plain = [prompt for prompt, family in asked if prompt in {p.input for p in val}]
    assert len(asked) == 40 + len(optimizer_train.FOREIGN)
    assert 15 <= len(plain) <= 30
    assert asked == optimizer_train.calibration_prompts(val, 40)
    assert 0 < fitted.useful < fitted.rows
    assert (
        confidence.calibrated_likelihood(-0.1, fitted)
        > 0.5
        > confidence.calibrated_likelihood(-0.9, fitted)
    )
