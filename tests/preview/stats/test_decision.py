"""What an interval allows to be said, what the fitted curve adds, and what it does not know."""

from collections import Counter

import pytest

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.preview.stats import decision
from sem.preview.stats.paired_gain import PairedGain

KNOWN = {
    "log_width": 1.0,
    "log_effect": 2.0,
    "log_benchmark": 7.0,
    "share_used": 0.5,
    "balance": 1.0,
}
CURVE = {
    "weights": {"log_width": -1.0, "share_used": 2.0},
    "intercept": 0.5,
    "tells_size_from": 0.75,
    "ranges": {"log_width": [0.0, 3.0], "share_used": [0.25, 1.0]},
    "widen": {"points": 1.0, "share": 0.1, "unseen_points": 0.0, "unseen_share": 0.0},
}


@pytest.fixture
def fitted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decision, "CURVE", tmp_path / "curve.json")
    files.write_file(tmp_path / "curve.json", jsonio.pretty_json(CURVE))


@pytest.fixture
def unfitted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decision, "CURVE", tmp_path / "curve.json")


@pytest.mark.parametrize(
    ("low", "mean", "high", "word", "reason"),
    [
        (0.5, 1.0, 1.5, "improves", "+1.0 points [+0.5, +1.5], n = 900: above 0, and 1 points or"),
        (0.1, 0.9, 1.7, "cannot_tell", "the interval holds both no gain and 1 points or more"),
        (-0.1, 2.0, 4.1, "cannot_tell", "holds both"),
        (0.1, 0.5, 0.9, "does_not_improve", "below 1 points"),
        (-9.0, -8.0, -7.0, "does_not_improve", "below 1 points"),
    ],
)
def test_an_interval_wider_than_the_decision_abstains(low, mean, high, word, reason) -> None:
    found = decision.decide_gain(PairedGain(mean / 100, low / 100, high / 100, 900))
    assert found.word == word
    assert reason in found.reason


def test_without_a_fitted_curve_there_is_no_confidence_and_no_widening(unfitted) -> None:
    assert decision.compute_confidence(KNOWN) == (None, "not_fitted: curve.json is missing")
    gain = PairedGain(0.1, 0.05, 0.15, 100)
    assert decision.widen_gain(gain, 0.5) == gain


@pytest.mark.parametrize(
    ("share", "word", "told", "reason"),
    [
        (1.0, "improves", True, None),
        (1.0, "cannot_tell", False, "whether it improves cannot be told"),
        (0.5, "does_not_improve", False, "a confidence of 62% is below 75%"),
    ],
)
def test_how_much_is_told_only_where_it_was_near_in_the_backtest(
    fitted, share, word, told, reason
) -> None:
    found = decision.decide_size_claim(KNOWN | {"share_used": share}, word)
    assert found == {"told": told, "reason": reason}


def test_without_a_backtest_the_size_is_not_told(unfitted) -> None:
    assert decision.decide_size_claim(KNOWN, "improves") == {
        "told": False,
        "reason": "not_fitted: curve.json is missing",
    }


def test_the_curve_is_logistic(fitted) -> None:
    chance, why = decision.compute_confidence(KNOWN)
    assert chance == pytest.approx(1 / (1 + 2.718281828 ** -(0.5 - 1.0 + 1.0)))
    assert why == ""


def test_outside_its_range_the_curve_says_so_and_goes_no_further(fitted) -> None:
    within, _ = decision.compute_confidence(KNOWN | {"log_width": 3.0})
    beyond, why = decision.compute_confidence(KNOWN | {"log_width": 9.0})
    assert beyond == within
    assert why == "outside_the_backtest: log_width"


def test_a_curve_of_other_features_is_refused(fitted) -> None:
    with pytest.raises(SemError) as caught:
        decision.compute_confidence({"log_width": 1.0})
    assert caught.value.message == "curve.json weighs share_used, which is not measured"


def test_intervals_are_widened_in_squares_and_more_for_what_was_not_seen(fitted) -> None:
    gain = PairedGain(0.2, 0.16, 0.24, 100)
    found = decision.widen_gain(gain, 0.0)
    assert found.low == pytest.approx(0.2 - (0.04**2 + 0.01**2 + 0.02**2) ** 0.5)
    by = {"points": 0.0, "share": 0.0, "unseen_points": 3.0, "unseen_share": 0.0}
    assert decision.widen_gain(gain, 1.0, by).high == pytest.approx(0.25)
    assert decision.widen_gain(gain, 0.0, by).high == pytest.approx(0.24)


def test_where_nothing_was_learnt_nothing_is_widened(fitted) -> None:
    nothing = PairedGain(0.0, 0.0, 0.0, 900)
    assert decision.widen_gain(nothing, 0.0) == nothing
    assert decision.decide_gain(decision.widen_gain(nothing, 0.0)).word == "does_not_improve"


def test_the_shipped_curve_was_fitted_and_tested() -> None:
    curve = decision.confidence_curve()
    assert curve is not None
    assert set(curve["weights"]) == set(curve["ranges"]) == set(KNOWN)
    assert len(curve["rows_sha256"]) == 64
    assert curve["tested"]["brier"] <= curve["tested"]["brier_of_the_base_rate"]


@pytest.mark.parametrize(
    ("counts", "expected"), [({"a": 5, "b": 5}, 1.0), ({"a": 5}, 0.0), ({"a": 99, "b": 1}, 0.081)]
)
def test_balance(counts, expected) -> None:
    assert decision.class_balance(Counter(counts)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("preview", "full", "near"),
    [(10, 12, True), (10, 12.6, False), (0.4, 0, True), (-0.4, 0.2, False), (-8, -10, True)],
)
def test_near_is_a_fifth_or_half_a_point(preview, full, near) -> None:
    assert decision.is_near(preview, full) is near
