"""Each family agrees with a peer, wants its effect, and is right about noise."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from sem.core.errors import SemError
from sem.preview.result import acceptance
from sem.preview.result.acceptance import SideValues


def draws(rng: np.random.Generator, kind: str, n: int, lift: float) -> list[float]:
    if kind == "proportion":
        return (rng.random(n) < 0.4 + lift).astype(float).tolist()
    if kind == "rank_or_ordinal":
        return np.clip(rng.integers(1, 6, n) + (rng.random(n) < lift), 1, 5).astype(float).tolist()
    normal = rng.normal(1 + lift, 1, n)
    if kind == "continuous":
        return normal.tolist()
    return np.where(rng.random(n) < 0.3 + lift, np.exp(normal), 0).tolist()


@pytest.mark.parametrize("family", list(acceptance.FAMILIES))
def test_no_difference_is_called_better_rarely_and_a_large_one_always(family) -> None:
    called = found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        before, same = draws(rng, family, 150, 0.0), draws(rng, family, 150, 0.0)
        better = draws(rng, family, 150, 0.9 if family == "rank_or_ordinal" else 0.45)
        called += acceptance.compare_by_family(family, SideValues(before, same), seed=seed).passed
        found += acceptance.compare_by_family(family, SideValues(before, better), seed=seed).passed
    # 5 expected of the one-sided ones; 99 % of binomials are below 11.
    assert called <= 10
    assert found >= 95


def test_a_proportion_agrees_with_statsmodels() -> None:
    before, after = [1.0] * 40 + [0.0] * 60, [1.0] * 70 + [0.0] * 80
    found = acceptance.compare_by_family("proportion", SideValues(before, after))
    _, p = proportions_ztest([70, 40], [150, 100], alternative="larger")
    low, high = confint_proportions_2indep(70, 150, 40, 100, method="wald")
    assert (found.p, found.low, found.high) == pytest.approx((p, low, high))


def test_means_agree_with_welch_and_cohen() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.normal(0, 1, 50), rng.normal(0.8, 2, 70)
    found = acceptance.compare_by_family("continuous", SideValues(before.tolist(), after.tolist()))
    p = stats.ttest_ind(after, before, equal_var=False, alternative="greater").pvalue
    pooled = np.sqrt((49 * before.var(ddof=1) + 69 * after.var(ddof=1)) / 118)
    assert found.p == pytest.approx(p)
    assert found.size == pytest.approx((after.mean() - before.mean()) / pooled)
    assert found.low < found.effect < found.high


def test_ranks_agree_with_their_definition() -> None:
    before, after = [1.0, 2, 2, 3], [2.0, 3, 4, 5, 5]
    found = acceptance.compare_by_family("rank_or_ordinal", SideValues(before, after))
    wins = sum((a > b) - (a < b) for a in after for b in before)
    assert found.effect == pytest.approx(wins / 20)


def test_units_that_belong_together_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    whole = np.repeat(rng.normal(1, 1, 20), 10)
    after = (whole + 0.5).tolist()
    units = np.repeat(np.arange(20), 10).tolist()
    alone = acceptance.compare_by_family(
        "zero_inflated_continuous", SideValues(whole.tolist(), after)
    )
    tied = acceptance.compare_by_family(
        "zero_inflated_continuous", SideValues(whole.tolist(), after, units, units)
    )
    assert tied.high - tied.low > 2 * (alone.high - alone.low)


def test_a_difference_below_the_least_effect_does_not_pass() -> None:
    sides = SideValues([0.0, 1.0] * 500, [0.0, 1.0, 1.0, 1.0] * 250)
    assert acceptance.compare_by_family("proportion", sides, 0.2).passed
    assert not acceptance.compare_by_family("proportion", sides, 0.3).passed


@pytest.mark.parametrize(
    ("family", "before", "after", "message"),
    [
        ("median", [0, 1], [1, 1], "no family 'median'"),
        ("proportion", [0, 2], [1, 1], "a proportion is of zeros and ones"),
        ("continuous", [1], [1, 2], "before: 1 values, all of which must be numbers"),
        ("continuous", [1, 2], [1, float("nan")], "after: 2 values, all of which must be numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(family, before, after, message) -> None:
    with pytest.raises(SemError) as caught:
        acceptance.compare_by_family(family, SideValues(before, after))
    assert caught.value.message == message
