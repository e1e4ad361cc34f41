"""How many rows: the published figures, peers, and agreement with the tests that are planned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as peer
from statsmodels.stats.power import TTestPower

from sem.core.errors import SemError
from sem.eval.stats import clusters, paired_stats, planning
from sem.eval.stats.clusters import DomainDifferences


@pytest.mark.parametrize(("failures", "rows"), [(0, 299), (1, 473), (2, 628), (3, 773)])
def test_rows_that_certify_99_percent(failures: int, rows: int) -> None:
    assert planning.rows_to_certify(failures) == rows


@given(st.integers(0, 6), st.sampled_from([0.5, 0.9, 0.95, 0.98]), st.sampled_from([0.05, 0.025]))
def test_one_row_less_does_not_certify(failures: int, share: float, side: float) -> None:
    rows = planning.rows_to_certify(failures, share, side)
    reached = paired_stats.clopper_pearson(rows - failures, rows, 1 - 2 * side)[0]
    missed = paired_stats.clopper_pearson(rows - 1 - failures, rows - 1, 1 - 2 * side)[0]
    assert missed < share <= reached + 1e-12


def test_certainty_cannot_be_certified() -> None:
    assert planning.rows_to_certify(0, 1.0) is None
    assert planning.rows_to_certify(0, 1.5) is None
    # 0.5 ** 4 is 0.0625: at that very level four rows do.
    assert planning.rows_to_certify(0, 0.5, 0.0625) == 4
    assert planning.rows_to_certify(0, 0.0) == 1
    assert planning.rows_to_certify(0, 1 - 1e-9) is None


@pytest.mark.parametrize(("discordance", "pairs"), [(0.05, 157), (0.10, 314), (0.20, 628)])
def test_pairs_for_a_margin_of_five_points(discordance: float, pairs: int) -> None:
    assert planning.pairs_needed(0.05, discordance) == pairs
    assert planning.detectable_difference(pairs, discordance) <= 0.05
    assert planning.detectable_difference(pairs - 1, discordance) > 0.05


def test_the_level_and_power_of_the_plan() -> None:
    assert (planning.SIDE, planning.POWER, planning.MOST) == (0.025, 0.8, 10_000_000)


def test_less_power_and_a_laxer_level_need_fewer_pairs() -> None:
    z = peer.norm.isf(0.05) + peer.norm.ppf(0.9)
    assert planning.pairs_needed(0.04, 0.1, 0.05, 0.9) == int(np.ceil((z / 0.04) ** 2 * 0.1))


def test_more_domains_beat_more_pages() -> None:
    assert round(planning.effective_rows(500, 50, 0.1)) == 85
    assert planning.design_effect(50, 0.1) == pytest.approx(5.9)
    assert planning.design_effect(1, 0.1) == 1.0
    assert planning.effective_rows(500, 5, 0.1) > 4 * planning.effective_rows(500, 50, 0.1)


@pytest.mark.parametrize(("discordance", "rows", "icc"), [(0.2, 1, 0.0), (0.1, 10, 0.1)])
def test_domains_are_those_of_a_t_test(discordance: float, rows: int, icc: float) -> None:
    found = planning.domains_needed(0.05, discordance, rows, icc)
    spread = np.sqrt(discordance * planning.design_effect(rows, icc) / rows)
    theirs = TTestPower().solve_power(0.05 / spread, alpha=0.025, power=0.8, alternative="larger")
    assert found == pytest.approx(np.ceil(theirs), abs=1)


def test_few_domains_pay_for_their_few_degrees_of_freedom() -> None:
    # By the normal approximation four domains would do.
    spread = np.sqrt(0.2 / 10)
    by_normal = (2.8016 * spread / 0.2) ** 2
    found = planning.domains_needed(0.2, 0.2, 10, 0.0)
    theirs = TTestPower().solve_power(0.2 / spread, alpha=0.025, power=0.8, alternative="larger")
    assert by_normal < 4
    assert found == np.ceil(theirs) == 7


def like(sums: list[float], rows: int = 10) -> DomainDifferences:
    values = np.array(sums, float)
    return DomainDifferences(
        values, np.maximum(values, 0), np.maximum(-values, 0), np.full(len(sums), rows)
    )


FOUND = like([1, -1, 2, 0, 1, -2, 0, 1, 1, -1, 0, 1])


def test_more_of_the_same_shrinks_the_error_by_its_root() -> None:
    total = planning.estimate_needed_domains(FOUND, 0.02, 0.025, 0.8)
    spread = float(clusters.jackknife_error(FOUND)) * np.sqrt(12)
    theirs = TTestPower().solve_power(0.02 / spread, alpha=0.025, power=0.8, alternative="larger")
    assert total == pytest.approx(np.ceil(theirs), abs=1)
    assert planning.estimate_needed_domains(FOUND, 0.04, 0.025, 0.8) == pytest.approx(
        total / 4, abs=2
    )
    assert planning.estimate_needed_domains(FOUND, 0.02, 0.025, 0.9) > total
    assert planning.estimate_needed_domains(FOUND, 0.02, 0.005, 0.8) > total


def test_unequal_domains_count_for_less() -> None:
    lumpy = DomainDifferences(
        FOUND.sums, FOUND.gains, FOUND.losses, np.array([80.0] + [40 / 11] * 11)
    )
    spread = float(clusters.jackknife_error(lumpy)) * np.sqrt(12)
    total = planning.estimate_needed_domains(lumpy, 1.5 * spread, 0.025, 0.8)
    even = planning.estimate_needed_domains(
        FOUND, 1.5 * float(clusters.jackknife_error(FOUND)) * np.sqrt(12), 0.025, 0.8
    )
    assert lumpy.freedom < 2
    assert total > even + 2


@pytest.mark.parametrize("distance", [0.0, -0.01, float("nan"), 1e-9])
def test_nothing_helps_an_estimate_that_misses_its_target(distance: float) -> None:
    assert planning.estimate_needed_domains(FOUND, distance, 0.025, 0.8) is None


def test_a_plan_counts_effective_domains() -> None:
    rows = np.array([30.0, 10.0] * 6)
    found = DomainDifferences(FOUND.sums, FOUND.gains, FOUND.losses, rows)
    one = float(clusters.jackknife_error(found)) * np.sqrt(12)
    share = 240**2 / (6 * 900 + 6 * 100) / 12
    assert share == pytest.approx(0.8)
    total = planning.estimate_needed_domains(found, 0.03, 0.025, 0.8)
    for count, reached in ((total - 1, False), (total, True)):
        limit = peer.t.isf(0.025, share * count - 1)
        power = peer.nct.sf(limit, share * count - 1, 0.03 * np.sqrt(count) / one)
        assert (power >= 0.8) == reached


def test_two_domains_are_enough_to_plan_with() -> None:
    assert planning.estimate_needed_domains(like([1, 3]), 0.1, 0.025, 0.8) > 2


def test_one_domain_plans_nothing_and_no_spread_needs_two() -> None:
    assert planning.estimate_needed_domains(like([1]), 0.1, 0.025, 0.8) is None
    assert planning.estimate_needed_domains(like([0, 0, 0]), 0.1, 0.025, 0.8) == 2


def test_what_these_data_could_have_shown() -> None:
    found = planning.detectable_with(FOUND)
    t = peer.t.isf(0.025, 11) + peer.t.ppf(0.8, 11)
    assert found == pytest.approx(t * float(clusters.jackknife_error(FOUND)))
    assert planning.detectable_with(FOUND, 0.05, 0.5) < found
    assert planning.detectable_with(like([10, -10])) == 1.0


def test_far_more_data_than_needed_has_power_one() -> None:
    assert planning._power(50, 0.5, 0.01, 1.0, 0.025) == pytest.approx(1.0)
    assert planning._power(5000, 0.5, 0.01, 1.0, 0.025) == pytest.approx(1.0)


def test_a_plan_says_rows_and_domains_of_each_claim() -> None:
    assumed = planning.Assumptions(0.05, 0.1, 10, 0.1, 0.99)
    rows = planning.plan_rows(assumed)

    assert rows[0][1:] == ("314", "314")
    domains = planning.domains_needed(0.05, 0.1, 10, 0.1)
    assert rows[1][1:] == (f"{10 * (domains or 0):,}", f"{domains:,}")
    assert [line[1] for line in rows[2:]] == ["299", "473", "773"]


def test_a_plan_says_what_a_test_part_can_show() -> None:
    assumed = planning.Assumptions(0.05, 0.2, 10, 0.1, 0.99)
    facts = dict(planning.test_part_rows(["a"] * 50 + ["b"] * 50, assumed))

    # 100 rows of two sites are worth 17: 1 + 49 * 0.1 is 5.9.
    assert facts["independent rows it is worth (icc 0.1)"] == "17"
    assert facts["smallest difference it shows"] == "30.4 points"
    assert planning.test_part_rows([], assumed) == [("rows", "0: nothing can be shown")]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 0.1, 10, 0.1, 0.99), "--margin 0"),
        ((0.05, 1.5, 10, 0.1, 0.99), "--differ 150"),
        ((0.05, 0.1, 0.5, 0.1, 0.99), "--rows-per-domain 0.5"),
        ((0.05, 0.1, 10, 1.1, 0.99), "--icc 1.1"),
        ((0.05, 0.1, 10, 0.1, 1.0), "--at-least 100"),
        ((float("nan"), 0.1, 10, 0.1, 0.99), "--margin nan"),
    ],
)
def test_a_plan_that_supposes_the_impossible_is_refused(values, message) -> None:
    with pytest.raises(SemError, match=message):
        planning.Assumptions(*values)
