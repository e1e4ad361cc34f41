"""The curve finds known laws, scales the last rung only, and is wide where it knows least."""

import math

import pytest

from sem.preview.linear import estimate
from sem.preview.linear.estimate import LadderRung
from sem.preview.stats.paired_gain import PairedGain


def steps(law, rows=(250, 500, 1_000), error: float = 0.002) -> list[LadderRung]:
    wide = estimate.HALF * error
    return [LadderRung(n, PairedGain(law(n), law(n) - wide, law(n) + wide, 2_000)) for n in rows]


def power(height: float, c: float, m: float = 1_000):
    return lambda n: height * (1 - (1 + n / m) ** -c)


def test_nothing_is_extrapolated_where_all_rows_were_learnt_from() -> None:
    found = steps(power(0.2, 0.5))
    assert estimate.estimate_full_gain(found, 1_000, 1_000) == found[-1].gain


@pytest.mark.parametrize("c", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("height", [0.3, -0.3])
def test_a_power_law_is_continued_within_its_interval(c, height) -> None:
    law = power(height, c)
    found = estimate.estimate_full_gain(steps(law), 1_000, 8_000)
    assert found.low < law(8_000) < found.high
    assert found.mean == pytest.approx(law(8_000), rel=0.15)


def test_the_further_the_wider_and_never_steeper_than_the_rows() -> None:
    found = steps(power(0.2, 0.5))
    gains = [estimate.estimate_full_gain(found, 1_000, total) for total in (1_500, 3_000, 10_000)]
    assert [g.width for g in gains] == sorted(g.width for g in gains)
    for gain, total in zip(gains, (1_500, 3_000, 10_000), strict=True):
        assert 1 <= gain.mean / found[-1].gain.mean <= total / 1_000


def test_rungs_that_flatten_grow_less_than_rungs_in_a_line() -> None:
    flat = steps(lambda n: 0.1 * (1 - math.exp(-n / 100)))
    line = steps(lambda n: 0.1 * n / 1_000)
    assert estimate.extrapolate_gain(flat, 1_000, 10_000).factor < 1.3
    assert estimate.extrapolate_gain(line, 1_000, 10_000).factor > 2


def test_one_rung_is_enough_and_its_interval_says_how_little_it_knows() -> None:
    one = steps(power(0.2, 0.5))[-1:]
    all_three = steps(power(0.2, 0.5))
    assert (
        estimate.extrapolate_gain(one, 1_000, 8_000).spread
        > estimate.extrapolate_gain(all_three, 1_000, 8_000).spread
    )


def test_no_gain_stays_none() -> None:
    found = estimate.estimate_full_gain(steps(lambda n: 0.0), 1_000, 50_000)
    assert found.mean == 0
    assert found.low < 0 < found.high
