"""Differences, tests and intervals: against peers, by property, and where normal theory ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as peer
from scores import column, one
from statsmodels.stats.contingency_tables import mcnemar as peer_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from sem.eval.stats import clusters, paired_stats
from sem.eval.stats.clusters import DomainDifferences

counts = st.integers(0, 60)


@given(counts, counts)
def test_mcnemar_is_that_of_statsmodels(gains: int, losses: int) -> None:
    table = [[5, gains], [losses, 5]]
    assert paired_stats.mcnemar_p_value(gains, losses) == pytest.approx(
        peer_mcnemar(table, exact=True).pvalue if gains + losses else 1.0, abs=1e-9
    )


@given(counts, st.integers(1, 500), st.sampled_from([0.9, 0.95, 0.99]))
def test_clopper_pearson_is_that_of_scipy_and_statsmodels(hits, rows, confidence) -> None:
    hits = min(hits, rows)
    found = paired_stats.clopper_pearson(hits, rows, confidence)
    theirs = peer.binomtest(hits, rows).proportion_ci(confidence, "exact")
    assert found == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    other = proportion_confint(hits, rows, 1 - confidence, "beta")
    assert found == pytest.approx([float(np.nan_to_num(x, nan=0.0)) for x in other], abs=1e-9)


def test_without_rows_a_share_is_anything() -> None:
    assert paired_stats.clopper_pearson(0, 0) == (0.0, 1.0)
    assert paired_stats.clopper_pearson(7, 9) == paired_stats.clopper_pearson(7, 9, 0.95)
    assert paired_stats.clopper_pearson(0, 20)[1] == pytest.approx(1 - 0.025 ** (1 / 20))


@pytest.mark.parametrize("members", [1, 2, 3, 7, 12])
def test_holm_is_that_of_statsmodels(members: int) -> None:
    values = np.random.default_rng(members).random(members) / 5
    found = paired_stats.adjust_p_values({f"s{n}": value for n, value in enumerate(values)})
    theirs = multipletests(values, method="holm")[1]
    assert [found[f"s{n}"] for n in range(len(values))] == pytest.approx(list(theirs), abs=1e-9)


def test_holm_of_nothing_is_nothing() -> None:
    assert paired_stats.adjust_p_values({}) == {}
    assert paired_stats.adjust_p_values({"a": 0.01, "b": 0.03, "c": 0.02}) == pytest.approx(
        {"a": 0.03, "b": 0.04, "c": 0.04}
    )
    assert paired_stats.adjust_p_values({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def by_hand(values: list[float], domains: list[str]) -> tuple[float, float, float]:
    """Return mean, jackknife error and degrees of freedom, from the definitions."""
    names = sorted(set(domains))
    mean = float(np.mean(values))
    left = [np.mean([v for v, d in zip(values, domains, strict=True) if d != n]) for n in names]
    size = len(names)
    error = np.sqrt((size - 1) / size * sum((one - mean) ** 2 for one in left))
    rows = [domains.count(n) for n in names]
    return mean, float(error), sum(rows) ** 2 / sum(n * n for n in rows) - 1


differences = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 1.0, 0.5]), st.sampled_from("abcdefgh")), min_size=2
).filter(lambda rows: len({d for _, d in rows}) > 1)


@given(differences)
def test_the_error_is_the_jackknife_over_domains(rows) -> None:
    values, domains = [v for v, _ in rows], [d for _, d in rows]
    found = clusters.sum_by_cluster(values, domains)
    mean, error, freedom = by_hand(values, domains)
    assert float(found.mean) == pytest.approx(mean, abs=1e-12)
    assert float(clusters.jackknife_error(found)) == pytest.approx(error, abs=1e-12)
    assert found.freedom == pytest.approx(freedom)


def many(sums: list[float], rows: int = 10) -> DomainDifferences:
    values = np.array(sums, float)
    return DomainDifferences(
        values, np.maximum(values, 0), np.maximum(-values, 0), np.full(len(sums), rows)
    )


def test_with_enough_moved_domains_the_interval_is_that_of_a_t_test() -> None:
    # Equal domains: the jackknife is the t test on domain means.
    found = many([1, 2, -1, 0, 3, 1, 2, 2])
    theirs = peer.ttest_1samp(found.sums / 10, 0).confidence_interval(0.95)
    assert [float(b) for b in clusters.confidence_bounds(found)] == pytest.approx(
        [theirs.low, theirs.high]
    )
    for target in (-0.1, 0.0, 0.05):
        above = peer.ttest_1samp(found.sums / 10, target, alternative="greater").pvalue
        below = peer.ttest_1samp(found.sums / 10, target, alternative="less").pvalue
        assert float(clusters.p_above(found, target)) == pytest.approx(above, abs=1e-9)
        assert float(clusters.p_below(found, target)) == pytest.approx(below, abs=1e-9)


def test_no_change_in_thirty_rows_is_no_certainty() -> None:
    # The t interval of thirty zeros is [0, 0]; exact bounds say a loss up to 12 % is possible.
    found = many([0] * 30, rows=1)
    low, high = (float(b) for b in clusters.confidence_bounds(found))
    assert low == pytest.approx(-(1 - 0.025 ** (1 / 30)), abs=1e-9)
    assert high == -low
    assert float(clusters.p_above(found, -0.05)) == pytest.approx(0.95**30, abs=1e-6)
    assert float(clusters.p_above(found, 0.0)) == 1.0


def test_ten_rows_of_a_domain_are_worth_less_than_ten_domains() -> None:
    few, most = many([0] * 3, rows=10), many([0] * 30, rows=1)
    assert few.count == most.count
    assert few.effective == pytest.approx(30 / 1.9)
    assert (
        float(clusters.confidence_bounds(few)[0]) < float(clusters.confidence_bounds(most)[0]) < 0
    )


def test_the_exact_bounds_are_gains_less_losses() -> None:
    found = DomainDifferences(
        *(np.array(v, float) for v in ([3, -1, 0, 0], [3, 0, 0, 0], [0, 1, 0, 0])), np.full(4, 5.0)
    )
    share = found.effective / 20
    gain = clusters.binomial_bounds(3 * share, found.effective, 0.025)
    loss = clusters.binomial_bounds(1 * share, found.effective, 0.025)
    low, high = clusters._exact(found, 0.025)
    assert (float(low), float(high)) == pytest.approx((gain[0] - loss[1], gain[1] - loss[0]))


def test_a_fraction_gained_counts_nothing_in_the_exact_bounds() -> None:
    # Four rows that gain 0.1 each are no evidence of a gain near 1.
    whole = clusters.sum_by_cluster([1.0] * 4, list("abcd"))
    part = clusters.sum_by_cluster([0.1] * 4, list("abcd"))
    assert float(clusters.confidence_bounds(whole)[0]) < 0.1
    assert not part.binary
    assert float(clusters.confidence_bounds(part)[0]) == pytest.approx(-0.6023646, abs=1e-6)
    assert float(clusters.confidence_bounds(part)[1]) == pytest.approx(1.0)


@pytest.mark.parametrize("moved", [4, 5])
def test_exact_bounds_end_where_five_domains_moved(moved: int) -> None:
    found = many([-1] * moved + [0] * 40)
    assert bool(found.is_few) == (moved < 5)
    wide = float(clusters.jackknife_error(found)) * peer.t.isf(0.025, found.freedom)
    is_wider = float(clusters.confidence_bounds(found)[0]) < float(found.mean) - wide - 1e-9
    assert is_wider == (moved < 5)


@settings(deadline=None)
@given(differences, st.floats(-0.5, 0.5))
def test_the_two_ways_round_mirror_each_other(rows, target: float) -> None:
    found = clusters.sum_by_cluster([v for v, _ in rows], [d for _, d in rows])
    low, high = clusters.confidence_bounds(found)
    back = clusters.confidence_bounds(clusters.reverse_differences(found))
    assert (float(-back[1]), float(-back[0])) == pytest.approx((float(low), float(high)))
    assert -1 <= low <= float(found.mean) + 1e-12
    assert float(found.mean) - 1e-12 <= high <= 1
    assert 0 <= float(clusters.p_above(found, target)) <= 1


@settings(deadline=None)
@given(differences, st.floats(-0.4, 0.4))
def test_a_p_value_below_the_level_is_a_bound_beyond_the_target(rows, target: float) -> None:
    found = clusters.sum_by_cluster([v for v, _ in rows], [d for _, d in rows])
    p, low = float(clusters.p_above(found, target)), float(clusters.confidence_bounds(found)[0])
    if p < 0.0249:
        assert low >= target - 1e-6
    if p > 0.0251:
        assert low <= target + 1e-6


def test_one_domain_says_nothing() -> None:
    found = many([5])
    assert [float(b) for b in clusters.confidence_bounds(found)] == [-1.0, 1.0]
    assert float(clusters.p_above(found, -0.9)) == 1.0


def test_replications_are_worked_out_together_as_alone() -> None:
    rows = np.full(6, 5.0)
    sums = np.array([[1, 0, 2, -1, 1, 1], [0, 0, 0, 0, -1, 0], [3, 3, 3, 2, 1, 3]], float)
    whole = DomainDifferences(sums, np.maximum(sums, 0), np.maximum(-sums, 0), rows)
    for n in range(3):
        alone = DomainDifferences(sums[n], whole.gains[n], whole.losses[n], rows)
        assert [float(b[n]) for b in clusters.confidence_bounds(whole)] == [
            float(b) for b in clusters.confidence_bounds(alone)
        ]
        p = float(clusters.p_above(whole, -0.1)[n])
        assert p == pytest.approx(float(clusters.p_above(alone, -0.1)))


def test_pairs_are_made_by_id_and_the_rest_is_counted() -> None:
    before = [*column("+-+-"), one("only-before")]
    after = [*reversed(column("++--")), one("only-after"), one("too")]
    made = paired_stats.pair_scores(before, after, lambda s: s.accuracy)
    assert (made.found.count, made.unpaired, made.unscored) == (4, 3, 0)
    assert (made.gains, made.losses) == (1, 1)


def test_an_unscored_side_leaves_the_pair_out_and_is_counted() -> None:
    made = paired_stats.slot_pairs(column("+?-?"), column("++?-"))["price.title"]
    assert (made.found.count, made.unscored) == (1, 3)


def test_a_spurious_slot_of_one_run_is_a_loss() -> None:
    # Neither the reference nor the baseline writes a price: paired only where both have the
    # slot, inventing one would cost nothing.
    before = [one("a", "d1", {"title": "+"}), one("b", "d2", {"title": "+"})]
    after = [one("a", "d1", {"title": "+", "price": "-"}), one("b", "d2", {"title": "+"})]
    made = paired_stats.slot_pairs(before, after)["price.price"]
    assert (made.found.count, made.gains, made.losses) == (1, 0, 1)
    assert float(made.found.mean) == -1.0
    back = paired_stats.slot_pairs(after, before)["price.price"]
    assert (back.gains, back.losses) == (1, 0)


def test_slots_of_different_tasks_are_different_slots() -> None:
    before = [one("a", task="nav"), one("b", task="product")]
    assert list(paired_stats.slot_pairs(before, before)) == ["nav.title", "product.title"]
    assert list(paired_stats.slot_pairs(before, before[:1])) == ["nav.title"]
    many = [one("a", marks=dict.fromkeys("zyxwvutsrq", "+"))]
    assert list(paired_stats.slot_pairs(many, many)) == [f"price.{name}" for name in "qrstuvwxyz"]


def test_a_difference_is_in_points_and_says_how_it_was_made() -> None:
    before, after = column("-" * 40, 4), column("+" * 20 + "-" * 20, 4)
    found = paired_stats.paired_differences(before, after, "row_exact", draws=500, seed=3)
    assert (found.points, found.pairs, found.domains) == (50.0, 40, 10)
    assert (found.low, found.high) == (12.3, 87.7)
    assert 10 <= found.bootstrap_low < 50 < found.bootstrap_high <= 90
    assert found.is_shown
    assert found.as_json()["shown"] is True
    assert found.sentence() == "Accuracy improved by 50.0 points [+12.3, +87.7]"
    assert found == paired_stats.paired_differences(before, after, "row_exact", draws=500, seed=3)
    assert found != paired_stats.paired_differences(before, after, "row_exact", draws=1, seed=4)


def test_without_draws_there_is_no_bootstrap() -> None:
    found = paired_stats.mean_difference(
        paired_stats.pair_scores(column("-+-+"), column("++++"), lambda s: 1.0), draws=0
    )
    assert (found.bootstrap_low, found.bootstrap_high) == (None, None)
    assert found.points == 0.0


def test_without_pairs_everything_is_possible_and_nothing_shown() -> None:
    found = paired_stats.paired_differences(column("+"), [one("x")], "accuracy")
    assert (found.points, found.low, found.high) == (0.0, -100.0, 100.0)
    assert (found.pairs, found.domains, found.unpaired, found.unscored) == (0, 0, 2, 0)
    assert not found.is_shown
    assert found.sentence() == "no improvement shown: +0.0 points [-100.0, +100.0]"


def test_one_domain_shows_no_gain() -> None:
    assert not paired_stats.Difference(50.0, 10.0, 90.0, 5, 1).is_shown
    assert not paired_stats.Difference(50.0, 0.0, 90.0, 5, 9).is_shown
    assert paired_stats.Difference(50.0, 0.1, 90.0, 5, 2).is_shown


def test_the_bootstrap_draws_domains() -> None:
    # All of it in one domain of four: a draw without that domain has a mean of 0.
    found = many([10, 0, 0, 0])
    assert clusters.bootstrap_domains(found, 10_000, 1) == pytest.approx((0.0, 0.75))


def test_the_defaults_are_the_plans() -> None:
    assert (paired_stats.DRAWS, paired_stats.SEED) == (10_000, 42)
    found = paired_stats.paired_differences(column("-+" * 10), column("+" * 20), "accuracy")
    assert found == paired_stats.paired_differences(
        column("-+" * 10), column("+" * 20), "accuracy", 10_000, 42
    )


def test_the_correlation_is_that_of_analysis_of_variance() -> None:
    dice = np.random.default_rng(1)
    values = dice.choice([-1.0, 0.0, 1.0], size=(40, 5), p=[0.1, 0.7, 0.2])
    values[:20] = values[:20, :1]
    found = clusters.sum_by_cluster(
        list(values.ravel()), [f"d{n:02}" for n in range(40) for _ in range(5)]
    )
    between = 5 * values.mean(1).var(ddof=1)
    within = ((values - values.mean(1, keepdims=True)) ** 2).sum() / (40 * 4)
    expected = (between - within) / (between + 4 * within)
    assert 0.1 < expected < 0.5
    assert clusters.intraclass_correlation(found) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "domains", "expected"),
    [
        # No domain has two rows.
        ([1.0, 0.0], ["a", "b"], None),
        ([1.0, 0.0], ["a", "a"], None),  # one domain
        ([0.0] * 4, list("aabb"), None),
        # Fractions  # nothing varies.
        ([0.5, 0.5, 0.0, 0.0], list("aabb"), None),
        ([1.0, 1.0, 0.0, 0.0], list("aabb"), 1.0),
        # Negative estimates are none.
        ([1.0, -1.0, 1.0, -1.0], list("aabb"), 0.0),
    ],
)
def test_the_correlation_where_data_cannot_tell(values, domains, expected) -> None:
    assert clusters.intraclass_correlation(clusters.sum_by_cluster(values, domains)) == expected


def test_spread_over_seeds() -> None:
    found = paired_stats.measure_spread([80.0, 82.0, 84.0])
    assert (found.mean, found.sd, found.runs) == (82.0, 2.0, 3)
    theirs = peer.t.interval(0.95, 2, 82.0, 2 / np.sqrt(3))
    assert (found.low, found.high) == pytest.approx(theirs)
    assert found.noise == pytest.approx(peer.t.isf(0.025, 2) * 2 * np.sqrt(2))


def test_one_run_has_no_known_noise() -> None:
    assert paired_stats.measure_spread([80.0]) == paired_stats.Spread(
        80.0, 0.0, 80.0, 80.0, 1, None
    )


def test_the_noise_floor_is_the_spread_of_repeats_in_points() -> None:
    found = paired_stats.noise_floor([column("++--"), column("+++-")], "accuracy")
    assert (found.mean, found.runs) == (62.5, 2)
    assert found.sd == pytest.approx(np.std([50, 75], ddof=1))
    assert paired_stats.noise_floor([[], []], "accuracy").mean == 0.0
