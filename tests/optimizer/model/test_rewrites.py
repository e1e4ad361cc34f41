"""What an evaluation says of rewrites that are known to be good, bad or all alike."""

import json
from pathlib import Path

import pytest

from sem.core.errors import SemError
from sem.dataset.clean import near_duplicates
from sem.optimizer.eval import evaluate, report, trial
from sem.optimizer.eval.evaluate import EvalPrompt
from sem.optimizer.eval.report import EvaluationFacts, PromptSet
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewrite
from tests.optimizer.test_layout import changed

WORTH = Calibration(4.0, 10.0, 50, 25, 5, 0.1)
ASKED = [
    EvalPrompt(f"f{n % 6}.{n}", f"write a poem about the number {n}", f"f{n % 6}")
    for n in range(30)
]
FACTS = EvaluationFacts("r1", "base", "a machine", "fab optimizer.eval", "none", "Greedy")


class Said:
    """A rewriter that says what it is told to."""

    limit = 12

    def __init__(self, say) -> None:
        self.say = say

    def count(self, prompt: str) -> int:
        return len(prompt.split())

    def rewrite(self, prompts: list[str], _: Decoding) -> list[Rewrite]:
        return [Rewrite(self.say(prompt), -0.1, 9, True) for prompt in prompts]


def good(prompt: str) -> str:
    return changed(task=prompt, context=f"Verse {prompt.split()[-1]} is read aloud.")


def judged(say, asked=ASKED, worth=None) -> list[evaluate.MeasuredRewrite]:
    answers, _ = evaluate.rewrite_all(Said(say), asked, Decoding())
    return [
        evaluate.judge_rewrite(one, made, near_duplicates.text_similarity, worth)
        for one, made in answers
    ]


def test_a_network_that_learnt_it_beats_one_that_did_not():
    found = evaluate.compare_sides(judged(lambda p: p), judged(good))
    useful = found["useful: whole, sound, task kept"]

    assert (useful.points, useful.pairs, useful.domains) == (100.0, 30, 6)
    assert useful.low > 0
    assert useful.is_shown


def test_the_same_network_twice_is_no_difference():
    found = evaluate.compare_sides(judged(good), judged(good))

    assert {gain.points for gain in found.values()} == {0.0}
    assert not any(gain.is_shown for gain in found.values())
    # Nothing moved among 30 rows is not "± 0".
    assert all(gain.low < 0 < gain.high for gain in found.values())


def test_stuffed_outputs_fail():
    def stuffed(prompt: str) -> str:
        return changed(task=prompt, context=prompt, goal=prompt, steps=(prompt, prompt + " now"))

    rows = judged(stuffed)
    base = judged(good)
    found = evaluate.compare_sides(base, rows)

    # It is nearer to the prompt than an honest rewrite, and useless all the same.
    assert found["intent (cosine with the prompt)"].points > 0
    assert found["not stuffed"].points == -100.0
    assert found["useful: whole, sound, task kept"].points == -100.0


def test_rewrites_that_are_all_alike_are_told_by_their_variety():
    alike = evaluate.measure_variety(judged(lambda p: changed(task=p)))
    varied = evaluate.measure_variety(
        judged(lambda p: f"{p}, {int(p.split()[-1]) ** 5} and {int(p.split()[-1]) ** 7} times")
    )

    assert alike.same == 1.0
    assert alike.nearest == 1.0
    assert (varied.same, varied.nearest) < (0.1, 0.9)
    assert alike.distinct_2 < 0.05


def test_a_prompt_that_is_too_long_is_counted_and_the_order_is_kept():
    long = EvalPrompt("x", "word " * 20, "x")
    found, refused = evaluate.rewrite_all(Said(good), [ASKED[3], long, ASKED[1]], Decoding())

    assert [one.id for one, _ in found] == [ASKED[3].id, ASKED[1].id]
    assert refused == [long]


def test_trust_counts_what_is_shown_and_what_is_hidden():
    half = judged(lambda p: good(p) if int(p.split()[-1]) % 2 else p, worth=WORTH)
    found = evaluate.measure_reliability(half, WORTH)

    assert (found.shown, found.useful_shown, found.hidden_useful) == (15, 15, 0)
    # The likelihood alone, the same for all, would have shown the useless half too.
    assert (found.likelihood_shown, found.likelihood_useful) == (30, 15)


def test_the_report_holds_the_differences_and_twenty_rewrites_as_text():
    part = PromptSet("held-out", judged(lambda p: "<b>|x|</b>"), judged(good, worth=WORTH), 2)
    page = report.optimizer_report_page([part], FACTS, WORTH, seed=1)
    table = page.partition("rewrites drawn at random")[2].splitlines()

    assert "n = 30 prompts of 6 families, 2 refused as too long" in page
    assert "| useful: whole, sound, task kept | 0.0% | 100.0% | +100.0 [" in page
    assert sum(line.startswith("| write a poem") for line in table) == 20
    assert all(line.count(" | ") == 3 for line in table if line.startswith("| write"))


def test_prompts_of_others_are_measured_and_not_printed():
    part = PromptSet(trial.REAL, judged(lambda p: p), judged(good, worth=WORTH), 0, is_shown=False)
    page = report.optimizer_report_page([part], FACTS, WORTH, seed=1)

    assert "real prompts: n = 30" in page
    assert "write a poem" not in page


def test_a_rewrite_cannot_add_a_column_or_markup_to_the_report():
    assert report._cell("<script>|x\n\ny") == "&lt;script>\\|x / y"


def test_real_prompts_are_read_by_any_of_their_names(tmp_path: Path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": "a", "vague": "plan a trip"}, {"raw_prompt": "cook"}, {"input": "draw "}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert sorted((one.id, one.prompt) for one in trial.sample_real_prompts(path, 9, 1)) == [
        ("1", "cook"),
        ("2", "draw"),
        ("a", "plan a trip"),
    ]
    path.write_text('{"id": "a"}\n')
    with pytest.raises(SemError, match="row 1 has no prompt"):
        trial.sample_real_prompts(path, 9, 1)
