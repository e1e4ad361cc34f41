"""Does a model answer better with the rewritten prompt? Paired by question, with intervals.

Every question is answered twice by the same model, once as it is and once as the trained network
rewrites it. Two policies say which rewrites are used: all of them, or, as a client does, those
with a confidence above 0.5. Where none is used the question is asked as it is: a difference of 0,
and never a missing row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from sem.core import console
from sem.eval.scoring.slots import Similarity
from sem.eval.stats.paired_stats import Difference
from sem.forge import content_words
from sem.optimizer.eval import evaluate
from sem.optimizer.eval.answering import ModelAnswer, PromptAnswerer
from sem.optimizer.eval.evaluate import EvalPrompt
from sem.optimizer.eval.questions import ReferenceQuestion
from sem.optimizer.model import confidence
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewriter

COSINE, F1 = "cosine with the reference", "token F1 with the reference"
MEASURES = (COSINE, F1)
Scores = dict[str, float]  # by measure, 0 to 1


@dataclass(frozen=True)
class RewrittenQuestion:
    """A question and what the network made of it: "" where it made nothing."""

    question: ReferenceQuestion
    rewrite: str
    confidence: float
    # too_long, empty (asked as it is), cut, or "".
    note: str


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question answered as it is and as rewritten; scores are None without an answer."""

    turned: RewrittenQuestion
    raw: ModelAnswer
    rewritten: ModelAnswer
    raw_scores: Scores | None
    rewritten_scores: Scores | None


@dataclass(frozen=True)
class LiftResult:
    """Every question with both answers, and who gave them."""

    rows: tuple[AnsweredQuestion, ...]
    answerer: str


Uses = Callable[[RewrittenQuestion], bool]
POLICIES: dict[str, Uses] = {
    "every rewrite": lambda answer: bool(answer.rewrite),
    "only above 0.5": lambda answer: bool(answer.rewrite) and answer.confidence > confidence.DOUBT,
}


def rewrite_questions(
    questions: Sequence[ReferenceQuestion],
    network: Rewriter,
    decoding: Decoding,
    worth: Calibration,
) -> list[RewrittenQuestion]:
    """Return `questions` as `network` rewrites them.

    One that is longer than it reads has no rewrite.
    """
    console.print_note(f"questions: {len(questions)} prompts to rewrite")
    requests = [
        EvalPrompt(question.id, question.prompt, question.family) for question in questions
    ]
    rewrites = {
        request.id: rewrite
        for request, rewrite in evaluate.rewrite_all(network, requests, decoding)[0]
    }
    turned = []
    for question in questions:
        rewrite = rewrites.get(question.id)
        if rewrite is None:
            turned.append(RewrittenQuestion(question, "", 0.0, "too_long"))
            continue
        note = "empty" if not rewrite.text.strip() else "" if rewrite.finished else "cut"
        sure = confidence.rewrite_confidence(rewrite, question.prompt, worth)
        turned.append(
            RewrittenQuestion(question, rewrite.text.strip() and rewrite.text, sure, note)
        )
    return turned


def measure_lift(
    turned: Sequence[RewrittenQuestion], answerer: PromptAnswerer, similarity: Similarity
) -> LiftResult:
    """Return `turned` answered both ways by `answerer`.

    A text that is asked twice is answered once.
    """
    texts = sorted({text for entry in turned for text in _asked(entry)})
    console.print_note(f"answers: {len(texts)} prompts for {answerer.name}")
    answers = dict(zip(texts, answerer.answer(texts), strict=True))
    rows = []
    for entry in turned:
        raw, rewritten = (answers[text] for text in _asked(entry))
        reference = entry.question.reference
        scored = [_scores(answer, reference, similarity) for answer in (raw, rewritten)]
        rows.append(AnsweredQuestion(entry, raw, rewritten, *scored))
    return LiftResult(tuple(rows), answerer.name)


def _asked(entry: RewrittenQuestion) -> tuple[str, str]:
    return entry.question.prompt, entry.rewrite or entry.question.prompt


def _scores(answer: ModelAnswer, reference: str, similarity: Similarity) -> Scores | None:
    if not answer.is_scored:
        return None
    if not answer.text.strip():
        return dict.fromkeys(MEASURES, 0.0)
    near = min(1.0, max(0.0, similarity(reference, answer.text)))
    return {COSINE: near, F1: content_words.token_f1(reference, answer.text)}


@dataclass(frozen=True)
class PolicyGain:
    """What one policy is worth in one measure."""

    policy: str
    measure: str
    used: int  # rewrites
    # Mean with the raw prompt, 0 to 1, over the pairs that are scored.
    before: float
    after: float
    difference: Difference


def compute_lift_gains(result: LiftResult) -> list[PolicyGain]:
    """Return each measure under each policy."""
    return [_gain(result, policy, name) for policy in POLICIES for name in MEASURES]


def _gain(result: LiftResult, policy: str, name: str) -> PolicyGain:
    uses, values = POLICIES[policy], []
    for row in result.rows:
        raw, rewritten = (
            scores[name] if scores else None for scores in (row.raw_scores, row.rewritten_scores)
        )
        sent = rewritten if uses(row.turned) else raw
        values.append((raw, sent, row.turned.question.family))
    pairs = [(old, new) for old, new, _ in values if old is not None and new is not None]
    return PolicyGain(
        policy=policy,
        measure=name,
        used=sum(uses(row.turned) for row in result.rows),
        before=fmean(old for old, _ in pairs) if pairs else 0.0,
        after=fmean(new for _, new in pairs) if pairs else 0.0,
        difference=evaluate.paired_values(values),
    )
