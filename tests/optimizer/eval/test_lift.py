"""Whether answers get better with the rewrite: planted gains, losses, and everything odd."""

import pytest

from sem.dataset.clean import near_duplicates
from sem.optimizer.eval import answering, lift, trial
from sem.optimizer.eval.lift import COSINE, F1
from sem.optimizer.eval.questions import ReferenceQuestion
from sem.optimizer.eval.trial import TrialFindings
from sem.optimizer.model.rewriter import Decoding, Rewrite
from tests.optimizer.model.test_rewrites import WORTH, Said, good

ASKED = [
    ReferenceQuestion(
        f"q{n}",
        f"say the word number {n:02}",
        f"the answer is zebra{'abcdef'[n % 6] * 3}",
        f"f{n % 8}",
    )
    for n in range(24)
]
RIGHT = {one.prompt: one.reference for one in ASKED}


class Answers:
    """A model that answers by what its prompt holds."""

    name = "a model"

    def __init__(self, say) -> None:
        self.say, self.asked = say, []

    def answer(self, prompts: list[str]) -> list[answering.ModelAnswer]:
        self.asked += prompts
        return [self.say(prompt) for prompt in prompts]


def knows(prompt: str) -> answering.ModelAnswer:
    """Right when it is asked well, beside the point when not."""
    right = next(answer for raw, answer in RIGHT.items() if raw in prompt)
    return answering.ModelAnswer(right if "Act as" in prompt else "an umbrella", "stop")


def measured(rewrite=good, say=knows, asked=ASKED) -> lift.LiftResult:
    turned = lift.rewrite_questions(asked, Said(rewrite), Decoding(), WORTH)
    return lift.measure_lift(turned, Answers(say), near_duplicates.text_similarity)


def gains(found: lift.LiftResult) -> dict[tuple[str, str], lift.PolicyGain]:
    return {(gain.policy, gain.measure): gain for gain in lift.compute_lift_gains(found)}


def test_a_rewrite_that_helps_is_a_gain_with_an_interval():
    for gain in lift.compute_lift_gains(measured()):
        assert (gain.used, gain.difference.pairs, gain.difference.domains) == (24, 24, 8)
        assert gain.after == 1.0
        assert gain.difference.low > 50
        assert gain.difference.is_shown


def test_a_rewrite_that_harms_is_a_loss():
    def harms(prompt: str) -> answering.ModelAnswer:
        raw = next(raw for raw in RIGHT if raw in prompt)
        return answering.ModelAnswer("an umbrella" if "Act as" in prompt else RIGHT[raw], "stop")

    assert all(gain.difference.high < -50 for gain in lift.compute_lift_gains(measured(say=harms)))


def test_only_confident_rewrites_are_used_as_a_client_does():
    half = measured(lambda p: good(p) if int(p.split()[-1]) % 2 else f"Act as a cook. {p} {p}")
    found = gains(half)

    assert found["every rewrite", F1].used == 24
    assert found["every rewrite", F1].difference.points == 100.0
    # A rewrite that is not used is a difference of 0, not a missing row.
    assert found["only above 0.5", F1].used == 12
    assert found["only above 0.5", F1].difference.points == 50.0
    assert found["only above 0.5", F1].difference.pairs == 24


def test_what_is_not_rewritten_is_asked_as_it_is_and_counted():
    odd = {"01": ("", True), "02": (good(ASKED[2].prompt), False)}

    class Odd(Said):
        def rewrite(self, prompts: list[str], _: Decoding) -> list[Rewrite]:
            made = [odd.get(prompt.split()[-1], (good(prompt), True)) for prompt in prompts]
            return [Rewrite(text, -0.1, 9, is_whole) for text, is_whole in made]

    long = ReferenceQuestion("long", "word " * 20, "a reference", "x")
    turned = lift.rewrite_questions([*ASKED[:4], long], Odd(good), Decoding(), WORTH)

    assert [one.note for one in turned] == ["", "empty", "cut", "", "too_long"]
    used = {policy: [uses(one) for one in turned] for policy, uses in lift.POLICIES.items()}
    assert used["every rewrite"] == [True, False, True, True, False]
    assert used["only above 0.5"] == [True, False, False, True, False]
    answers = Answers(lambda prompt: answering.ModelAnswer("an umbrella", "stop"))
    found = TrialFindings(lift.measure_lift(turned, answers, near_duplicates.text_similarity))
    page = "\n".join(trial.opinion_lines(found))
    assert "## Answers to 5 questions of 5 families" in page
    assert "1 prompts are longer than the network reads and 1 rewrites are empty" in page
    assert "1 were cut at the most tokens" in page
    # Each text once: five prompts and three rewrites.
    assert len(answers.asked) == len(set(answers.asked)) == 8


def test_a_missing_answer_is_unscored_and_an_empty_one_is_zero():
    def says(prompt: str) -> answering.ModelAnswer:
        number = int(prompt.partition("number ")[2].split()[0])
        if "Act as" in prompt and number < 4:
            return answering.ModelAnswer("", "server_error")
        if "Act as" in prompt and number < 8:
            return answering.ModelAnswer(" ", "stop")
        return answering.ModelAnswer(RIGHT[f"say the word number {number:02}"], "length")

    found = measured(say=says)
    gain = gains(found)["every rewrite", COSINE]

    assert (gain.difference.pairs, gain.difference.unscored) == (20, 4)
    assert gain.difference.points == pytest.approx(-20.0)
    page = "\n".join(trial.opinion_lines(TrialFindings(found)))
    assert (
        "Answers, each text once: 48; 40 cut (scored), 4 empty (score 0), without an answer "
        in page
    )
    assert "(unscored): server_error 4." in page


def test_the_report_names_figures_and_prints_no_text():
    found = TrialFindings(measured())
    page, scores = "\n".join(trial.opinion_lines(found)), trial.opinion_scores(found)

    assert "| every rewrite | 24 | token F1 with the reference | 0.0% | 100.0% | +100.0 [" in page
    assert not any(one.prompt in page or one.reference in page for one in ASKED)
    assert scores["answers"]["gains"][1]["difference"]["pairs"] == 24
    assert trial.opinion_rows(found.lift)[0]["rewritten"]["text"] == ASKED[0].reference
