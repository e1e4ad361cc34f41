"""Scores and totals: failures stay in the denominator."""

import pytest
from toy import SPEC

from sem.core import settings
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.eval.answers.answers import Answer
from sem.eval.scoring import metrics, scoring
from sem.eval.stats import paired_stats

TASK = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "x"}, "spec")
MUG = Example("1", "price", "page", {"title": "Mug", "price": 9.5}, {"domain": "a.example"})


def answer(text: str, finish: str = "stop") -> Answer:
    return Answer("1", "price", text, finish, 10, 5, 100, 1)


@pytest.mark.parametrize(
    ("text", "json_valid", "schema_valid", "recovered", "accuracy"),
    [
        ('{"title": "Mug", "price": 9.5}', True, True, False, 1.0),
        ('{"title": "Mug", "price": 1}', True, True, False, 0.5),
        # Absent is null, null is wrong here.
        ('{"title": "Mug"}', True, False, False, 0.5),
        ('```json\n{"title": "Mug", "price": 9.5}\n```', False, False, True, 1.0),
        ('{"title": "Mug", "price": NaN}', False, False, False, 0.0),
        ('{"title": "Mug", "pri', False, False, False, 0.0),
        ("[1, 2]", True, False, False, 0.0),
        ("", False, False, False, 0.0),
    ],
)
def test_one_answer(text, json_valid, schema_valid, recovered, accuracy) -> None:
    score = scoring.score_answer(MUG, answer(text), TASK, None)
    found = (score.json_valid, score.schema_valid, score.recovered, score.accuracy)
    assert found == (json_valid, schema_valid, recovered, accuracy)


def test_a_missing_answer_is_wrong_and_counted() -> None:
    totals = metrics.compute_totals([scoring.score_answer(MUG, None, TASK, None)])
    assert (totals["n"], totals["missing"], totals["accuracy"]) == (1, 1, 0.0)


@pytest.mark.parametrize("finish", ["stop", "length", "refused", "missing"])
def test_how_an_answer_ended_is_counted(finish: str) -> None:
    found = metrics.compute_totals([scoring.score_answer(MUG, answer("", finish), TASK, None)] * 3)
    ends = {"length": "cut", "refused": "refused", "missing": "missing"}
    for name in ends.values():
        assert found[name] == (3 if name == ends.get(finish) else 0)


def test_totals_are_means_counts_and_quantiles() -> None:
    texts = ['{"title": "Mug", "price": 9.5}', '```{"title": "Mug"}```', "no"]
    scores = []
    for number, text in enumerate(texts * 7):
        said = Answer("1", "price", text, "stop", 10 + number, number, 100 * (number * 8 % 21), 1)
        example = Example(
            str(number), "price", "page", MUG.output_json, {"domain": f"d{number % 3}"}
        )
        scores.append(scoring.score_answer(example, said, TASK, None))
    found = metrics.compute_totals(scores)
    assert (found["n"], found["domains"], found["recovered"]) == (21, 3, 7)
    assert found["accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert (found["row_exact"], found["json_valid"]) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    assert found["schema_valid"] == pytest.approx(1 / 3)
    assert (found["tokens_in"], found["tokens_out"]) == (20.0, 10.0)
    assert (found["batch_latency_ms_p50"], found["batch_latency_ms_p95"]) == (1000, 1900)
    assert (found["missing_values"], found["spurious_values"]) == (21, 0)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert found["f1"] == pytest.approx(2 / 3)
    assert (found["unscored_slots"], found["errors"]) == (
        0,
        {"format": 14, "truncated_evidence": 7},
    )


def test_no_scores_have_totals() -> None:
    found = metrics.compute_totals([])
    assert (found["n"], found["accuracy"], found["batch_latency_ms_p95"]) == (0, 0.0, 0)
    assert (found["precision"], found["doc_crit_ok"], found["fields"]) == (None, None, {})


def test_what_nobody_could_score_is_counted_apart() -> None:
    rubric = {"slots": {"title": {"level": "llm_similarity"}}}
    free = settings.build_settings(
        TaskSpec, SPEC | {"base_model_id": "x", "rubric": rubric}, "spec"
    )
    said = answer('{"title": "Cup", "price": 9.5}')
    score = scoring.score_answer(MUG, said, free, None)
    found = metrics.compute_totals([score])
    assert (found["unscored_slots"], found["accuracy"], found["recall"]) == (1, 1.0, 1.0)
    right = scoring.score_answer(MUG, answer('{"title": "Mug", "price": 1}'), free, None)
    title = metrics.compute_field_rates([score, right])["price.title"]
    assert (title["n"], title["unscored"], title["pass"], title["recall"]) == (2, 1, 1.0, 1.0)
    assert score.row_exact
    judged = scoring.score_answer(MUG, said, free, lambda a, b: 0.9)
    assert metrics.compute_field_rates([judged])["price.title"]["score"] == 0.9


def test_groups_are_sorted() -> None:
    one, two = (Example(n, "price", "p", {}, {"domain": n}) for n in "ba")
    scores = [scoring.score_answer(e, answer("{}"), TASK, None) for e in (one, two)]
    assert list(metrics.group_scores(scores, "domain")) == ["a", "b"]
    assert metrics.group_scores(scores, "domain")["b"] == [scores[0]]
    other = scoring.score_answer(Example("c", "a", "p", {"title": "x"}), answer("{}"), TASK, None)
    named = scoring.score_answer(MUG, answer("{}"), TASK, None)
    assert list(metrics.compute_field_rates([named, other])) == [
        "a.title",
        "price.price",
        "price.title",
    ]


def test_precision_and_recall_tell_missing_from_spurious() -> None:
    silent = Example("2", "price", "page", {"title": "Cup", "price": None}, {"domain": "b"})
    scores = [
        scoring.score_answer(MUG, answer('{"title": "Mug", "price": null}'), TASK, None),
        scoring.score_answer(silent, answer('{"title": "Cup", "price": 3}'), TASK, None),
    ]
    price = metrics.compute_field_rates(scores)["price.price"]
    assert (price["missing"], price["spurious"]) == (1, 1)
    assert (price["precision"], price["recall"], price["f1"]) == (0.0, 0.0, 0.0)


def scored(name: str, domain: str, right: bool) -> scoring.Score:
    example = Example(name, "price", "page", {"title": "Mug", "price": 9.5}, {"domain": domain})
    text = '{"title": "Mug", "price": 9.5}' if right else "no"
    return scoring.score_answer(example, answer(text), TASK, None)


def test_the_interval_respects_domains() -> None:
    # All the gain sits in one domain of four: by rows it is certain, by domains it is not.
    before = [scored(f"{d}{i}", f"{d}.example", False) for d in "abcd" for i in range(50)]
    after = [scored(f"{d}{i}", f"{d}.example", d == "a") for d in "abcd" for i in range(50)]
    found = paired_stats.paired_differences(before, after, "accuracy", 2000, 1)
    assert found.points == 25.0
    assert found.low < 0
    assert not found.is_shown
    assert found.sentence().startswith("no improvement shown: +25.0 points")


def test_a_gain_everywhere_is_shown() -> None:
    before = [scored(f"{d}{i}", f"{d}.example", False) for d in "abcd" for i in range(5)]
    after = [scored(f"{d}{i}", f"{d}.example", True) for d in "abcd" for i in range(5)]
    found = paired_stats.paired_differences(before, after, "accuracy", 2000, 1)
    assert found.sentence() == "Accuracy improved by 100.0 points [+54.5, +100.0]"  # 4 domains


def test_one_domain_shows_nothing() -> None:
    before, after = [scored("1", "a", False)], [scored("1", "a", True)]
    assert not paired_stats.paired_differences(before, after, "accuracy", 100, 1).is_shown


def test_a_key_that_neither_side_writes_is_not_scored() -> None:
    # Counting it as right, {"title": …} alone would score half of every optional field.
    bare = Example("3", "price", "page", {"title": "Mug"}, {"domain": "c"})
    right = scoring.score_answer(bare, answer('{"title": "Mug"}'), TASK, None)
    assert set(right.slots) == {"title"}
    spurious = scoring.score_answer(bare, answer('{"title": "Mug", "price": 3}'), TASK, None)
    assert spurious.accuracy == 0.5
    failed = scoring.score_answer(bare, answer("no"), TASK, None)
    assert (set(failed.slots), failed.accuracy) == ({"title"}, 0.0)
