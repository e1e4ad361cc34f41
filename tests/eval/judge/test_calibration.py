"""Judging the judge: agreement against peers, correction on known errors, the gate's question."""

import random
from pathlib import Path

import pytest

from sem.core.errors import SemError
from sem.eval.judge import calibration
from sem.eval.judge.calibration import JudgeRequirement, Rate
from sem.eval.judge.verdicts import SlotVerdict


def judged(passed: bool) -> SlotVerdict:
    return SlotVerdict("judged", passed, float(passed), "")


def sample(count: int, tpr: float, tnr: float, truth: float, seed: int) -> tuple[dict, dict]:
    dice = random.Random(seed)
    human, verdicts = {}, {}
    for number in range(count):
        key = (f"e{number}", "text")
        human[key] = dice.random() < truth
        right = dice.random() < (tpr if human[key] else tnr)
        verdicts[key] = judged(human[key] if right else not human[key])
    return human, verdicts


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_the_one_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import cohen_kappa_score

    human, verdicts = sample(80, 0.8, 0.7, 0.6, seed)
    peer = cohen_kappa_score(list(human.values()), [v.passed for v in verdicts.values()])
    assert calibration.measure_agreement(human, verdicts).kappa == pytest.approx(peer)


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (45, 60), (1, 1)])
def test_intervals_are_those_of_statsmodels(hits: int, count: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    found = calibration.estimate_rate(hits, count)
    peer = proportion_confint(hits, count, method="beta")
    assert (found.low, found.high) == pytest.approx(peer, abs=1e-9, nan_ok=True)


def test_kappa_shows_what_agreement_hides_at_a_high_base_rate() -> None:
    # 95 of 100 pass; a judge that passes all agrees in 95 % and knows nothing.
    human = {(str(n), "s"): n < 95 for n in range(100)}
    found = calibration.measure_agreement(human, {key: judged(True) for key in human})
    assert (found.base_rate, found.judge_rate, found.kappa) == (0.95, 1.0, 0.0)
    assert (found.tpr.rate, found.tnr.rate) == (1.0, 0.0)


def test_what_has_no_decision_or_no_verdict_is_counted_apart() -> None:
    verdicts = {("a", "s"): judged(True), ("b", "s"): SlotVerdict("undecided", None, None, "")}
    human = {("a", "s"): True, ("b", "s"): True, ("c", "s"): False}
    found = calibration.measure_agreement(human, verdicts)
    assert (found.n, found.undecided, found.unmatched) == (1, 1, 1)


def test_a_known_bias_is_taken_out() -> None:
    # 70 % truly pass; 85 % of those and 10 % of the others are passed: 62.5 % raw.
    made = calibration.corrected_pass_rate(
        6250, 10_000, Rate(8500, 10_000, 0.85, 0, 1), Rate(9000, 10_000, 0.9, 0, 1)
    )
    assert made.raw == 0.625
    assert made.rate == pytest.approx(0.7)
    assert made.low < 0.7 < made.high
    assert made.variance == pytest.approx(
        (0.625 * 0.375 + 0.7**2 * 0.85 * 0.15 + 0.3**2 * 0.9 * 0.1) / 10_000 / 0.75**2, rel=1e-2
    )


@pytest.mark.parametrize(("tpr", "tnr"), [(0.5, 0.5), (0.2, 0.3), (None, 0.9)])
def test_a_judge_no_better_than_chance_has_no_corrected_rate(
    tpr: float | None, tnr: float
) -> None:
    one, other = Rate(5, 10, tpr, 0, 1), Rate(5, 10, tnr, 0, 1)
    assert calibration.corrected_pass_rate(5, 10, one, other).rate is None


@pytest.mark.parametrize(
    ("count", "tpr", "tnr", "words"),
    [
        (400, 0.95, 0.95, []),
        (40, 0.95, 0.95, ["40 labelled slots, 50 are needed"]),
        (400, 0.95, 0.5, ["kappa is", "TNR is"]),
    ],
)
def test_a_gate_rests_on_a_calibrated_judge_only(
    count: int, tpr: float, tnr: float, words: list[str]
) -> None:
    found = calibration.measure_agreement(*sample(count, tpr, tnr, 0.6, 3))
    lines = calibration.calibration_faults(found)
    assert all(any(line.startswith(word) for line in lines) for word in words)
    assert calibration.is_calibrated(found) is (not words)
    assert calibration.is_calibrated(found, "any")
    assert not calibration.is_calibrated(None)
    assert JudgeRequirement().labels == 50


def test_labels_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "human_labels.jsonl"
    path.write_text('{"id":"a","slot":"s","human_pass":true}\n', "utf-8")
    assert calibration.read_human_labels(path) == {("a", "s"): True}
    assert (
        calibration.calibration_facts(path, {("a", "s"): judged(True)}, {})["calibrated"] is False
    )
    path.write_text('{"id":"a","slot":"s","human_pass":"false"}\n', "utf-8")
    with pytest.raises(SemError, match="not a label"):
        calibration.read_human_labels(path)
