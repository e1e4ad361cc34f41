"""Which of two answers is better, the raw prompt's or the rewritten one's? As the judge says it.

Both stand beside the reference, in both orders. A preference that changes with the order is a
tie; two equal answers, and a question whose rewrite is not used, are one without asking.
"""

from collections import Counter
from dataclasses import dataclass

from sem.eval.judge import judge_prompts
from sem.eval.judge.judge_prompts import JudgeQuestion
from sem.eval.judge.judge_questions import ANSWER
from sem.eval.stats.paired_stats import Difference
from sem.optimizer.eval import evaluate
from sem.optimizer.eval.lift import POLICIES, AnsweredQuestion, LiftResult
from sem.optimizer.eval.optimizer_judge import JudgeSitting, OptimizerJudge


@dataclass(frozen=True)
class AnswerPreference:
    """Which answers are better under one policy: the rewritten prompt's less the raw one's."""

    policy: str
    wins: int
    losses: int
    ties: int  # said by the judge
    # Preferences that changed with the order: ties, too.
    flips: int
    # No rewrite was used, or both answers are the same text.
    same: int
    # Unjudged, not heard, or an answer is missing.
    unscored: int
    difference: Difference


def judge_preferences(
    jury: OptimizerJudge, result: LiftResult
) -> tuple[list[AnswerPreference], JudgeSitting]:
    """Return which of both answers to each question of `result` is nearer to its reference?"""
    questions = [
        JudgeQuestion(
            row.turned.question.id,
            ANSWER,
            row.turned.question.reference,
            row.rewritten.text,
            row.raw.text,
        )
        for row in result.rows
        if row.raw.is_scored and row.rewritten.is_scored and not _is_same(row)
    ]
    heard = jury.hear(judge_prompts.MODES["pairwise"], questions)
    return [_preference(policy, result, heard) for policy in POLICIES], heard


def _is_same(row: AnsweredQuestion) -> bool:
    return row.raw.is_scored and row.raw.text.strip() == row.rewritten.text.strip()


def _preference(policy: str, result: LiftResult, heard: JudgeSitting) -> AnswerPreference:
    uses = POLICIES[policy]
    settled = [
        (_settled(row, uses(row.turned), heard), row.turned.question) for row in result.rows
    ]
    counts = Counter(kind for (kind, _), _ in settled)
    values = [(0.0, value, question.family) for (_, value), question in settled]
    names = ("wins", "losses", "ties", "flips", "same", "unscored")
    return AnswerPreference(
        policy, *(counts[name] for name in names), evaluate.paired_values(values)
    )


def _settled(
    row: AnsweredQuestion, is_used: bool, heard: JudgeSitting
) -> tuple[str, float | None]:
    """Return how `row` counts and its value.

    The value is 1 where the rewritten prompt's answer is better, else -1 or 0.
    """
    if not row.raw.is_scored or (is_used and not row.rewritten.is_scored):
        return "unscored", None
    if not is_used or _is_same(row):
        return "same", 0.0
    opinion = heard.opinions.get(row.turned.question.id)
    if opinion is not None and opinion.state == "undecided":
        return "flips", 0.0
    if opinion is None or opinion.score is None:
        return "unscored", None
    return {1.0: ("wins", 1.0), 0.0: ("losses", -1.0)}.get(opinion.score, ("ties", 0.0))
