"""Which pairs stay: rules first, then faithfulness, near-duplicates, and the teacher where asked.

A pair is dropped by the first check it fails, and is told apart by every check that ran: they are
in its provenance, kept or dropped. A check that cannot run (no passage to compare with) says so.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sem.core import schema
from sem.core.errors import SemError
from sem.forge import language
from sem.forge.base import Pair
from sem.forge.checks import pair_rules as rules
from sem.forge.checks import question_duplicates
from sem.forge.checks.faithfulness import Passage
from sem.forge.checks.pair_rules import Case, Lengths
from sem.forge.teacher import second_opinion
from sem.forge.teacher.prompts import PASSAGE
from sem.forge.teacher.teacher import Teacher

# Why a check did not run: the forge names no text for the pair, or one in another language.
NO_PASSAGE, OTHER_LANGUAGE = "no_passage", "other_language"
# Capitals inside a sentence are names there, not every noun.
NO_NAMES = frozenset(("de", "lb"))


@dataclass(frozen=True)
class Quality:
    """`quality:` of forge.yaml: the checks and their thresholds."""

    # Refusals, leaks, loops, secrets, questions that cannot stand alone.
    rules: bool = True
    # Numbers, names, code and words of the answer stand in its passage.
    faithful: bool = True
    # Share of the answer's content words found; higher drops more.
    min_support: float = 0.6
    # Ask the teacher whether the passage supports the answer: a call more.
    judge: bool = False
    # Ask it its own question again and compare: a call more.
    consistent: bool = False
    # Token F1 of both answers; higher drops more.
    min_agreement: float = 0.4
    # Drop questions near an earlier one, a golden or a test question.
    near: bool = True
    # Jaccard index of 5-grams of the question; lower drops more.
    near_threshold: float = 0.8
    # The same of its content words; lower drops more paraphrases.
    near_words: float = 0.85
    # Same (as the passage), any, or an ISO 639-1 code.
    language: str = "same"
    min_question: int = 12  # characters
    max_question: int = 2_000
    min_answer: int = 1
    max_answer: int = 8_000

    def __post_init__(self) -> None:
        for name in ("min_support", "min_agreement"):
            if not 0 <= getattr(self, name) <= 1:
                raise SemError(f"quality.{name} {getattr(self, name)}", "write 0 to 1")
        for name in ("near_threshold", "near_words"):
            if not 0.1 <= getattr(self, name) <= 1:
                raise SemError(f"quality.{name} {getattr(self, name)}", "write 0.1 to 1")
        if self.language not in ("same", "any"):
            language.check_language(self.language, "quality.language")

    @property
    def lengths(self) -> Lengths:
        """Return the four limits of length."""
        return Lengths(self.min_question, self.max_question, self.min_answer, self.max_answer)


@dataclass(frozen=True)
class Verdict:
    """What became of one pair."""

    # With checks and reason in its provenance, without its passage.
    pair: Pair
    kept: bool
    # The first check it failed.
    reason: str | None
    # Check -> True, False, a number, or why it did not run.
    checks: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return one line of pairs.jsonl or dropped.jsonl."""
        return self.pair.as_json()


@dataclass(frozen=True)
class Context:
    """What pairs are checked against."""

    settings: Quality = field(default_factory=Quality)
    # (golden or test, question).
    others: tuple[tuple[str, str], ...] = ()
    teacher: Teacher | None = None
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # io_schema by task_id
    # Of pairs that name none.
    task: str | None = None


@dataclass
class _Trial:
    """A pair on its way through the checks."""

    pair: Pair
    checks: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None

    @property
    def has_passage(self) -> bool:
        return bool(self.pair.provenance.get(PASSAGE))

    def note(self, check: str, value: Any, reason: str | None) -> None:
        self.checks[check] = value
        self.reason = self.reason or reason

    def verdict(self) -> Verdict:
        provenance = {
            name: value for name, value in self.pair.provenance.items() if name != PASSAGE
        }
        provenance |= {"checks": self.checks, "reason": self.reason}
        pair = replace(self.pair, provenance=provenance)
        return Verdict(pair, self.reason is None, self.reason, self.checks)


def sift_pairs(pairs: Iterable[Pair], context: Context) -> Iterator[Verdict]:
    """Yield a Verdict on every one of `pairs`, in their order; all are held, about 3 kB each."""
    trials = [_alone(pair, context) for pair in pairs]
    (_compared if context.settings.near else _held_apart)(trials, context)
    for check in ("judge", "consistent"):
        if getattr(context.settings, check) and context.teacher is not None:
            _asked(trials, check, context.settings, context.teacher)
    for trial in trials:
        yield trial.verdict()


def _alone(pair: Pair, context: Context) -> _Trial:
    """Return `pair` after the checks that need nothing else.

    What is too long is not read any further.
    """
    trial, settings = _Trial(pair), context.settings
    trial.note("length", *_passed(rules.length(Case(pair, None), settings.lengths)))
    if trial.reason in ("question_too_long", "answer_too_long"):
        return trial
    if context.schemas:
        trial.note("schema", *_passed(_misfit(pair, context)))
    case = Case(pair, rules.expected(pair, settings.language))
    for name, rule in rules.RULES.items() if settings.rules else ():
        trial.note(name, *_passed(rule(case)))
    if settings.faithful:
        _supported(trial, case, settings)
    return trial


def _misfit(pair: Pair, context: Context) -> str | None:
    """Return whether the answer of `pair` is none of its task's.

    Cleaning would refuse it later.
    """
    io_schema = context.schemas.get(pair.task or context.task or "")
    if io_schema is None:
        return "unknown_task"
    return (
        "wrong_schema" if schema.schema_problems(pair.output, dict(io_schema), limit=1) else None
    )


def _passed(reason: str | None) -> tuple[bool, str | None]:
    return reason is None, reason


def _supported(trial: _Trial, case: Case, settings: Quality) -> None:
    if not trial.has_passage:
        trial.note("faithful", NO_PASSAGE, None)
        return
    provenance = trial.pair.provenance
    spoken = language.detect_language(str(provenance[PASSAGE]))
    if None not in (spoken, case.expected) and spoken != case.expected:
        trial.note("faithful", OTHER_LANGUAGE, None)
        return
    also = (*map(str, provenance.get("headings", ())), trial.pair.source)
    support = Passage(str(provenance[PASSAGE]), also).support(trial.pair.output, case.question)
    if case.expected in NO_NAMES:
        support = replace(support, names=())
    trial.note("faithful", round(support.words, 4), support.fault(settings.min_support))


def _compared(trials: list[_Trial], context: Context) -> None:
    """Note what is near to what, among those that passed so far."""
    passing = [trial for trial in trials if trial.reason is None]
    neighbours = question_duplicates.near(
        [trial.pair.prompt for trial in passing],
        context.others,
        context.settings.near_threshold,
        context.settings.near_words,
    )
    for number, trial in enumerate(passing):
        near = neighbours.get(number)
        trial.note("near", near is None, None if near is None else f"near_{near.where}")


def _held_apart(trials: list[_Trial], context: Context) -> None:
    """Note what is a golden or test question itself: no setting lets one be trained on."""
    reserved = {_folded(text): where for where, text in context.others}
    for trial in trials if reserved else ():
        if trial.reason is None:
            texts = (_folded(trial.pair.prompt), _folded(trial.pair.input))
            where = next((reserved[text] for text in texts if text in reserved), None)
            trial.note("apart", where is None, where and f"same_as_{where}")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _asked(trials: list[_Trial], check: str, settings: Quality, teacher: Teacher) -> None:
    """Note the teacher's second opinion of those that passed so far."""
    passing = [trial for trial in trials if trial.reason is None]
    for trial in passing:
        if not trial.has_passage:
            trial.note(check, NO_PASSAGE, None)
    items = ((trial, _question(trial, check, teacher)) for trial in passing if trial.has_passage)
    for trial, _, outcome in teacher.answered(items):
        if check == "judge":
            trial.note(check, *second_opinion.read_support(outcome))
        else:
            answer = Case(trial.pair, None).answer
            trial.note(
                check, *second_opinion.answer_agreement(outcome, answer, settings.min_agreement)
            )


def _question(trial: _Trial, check: str, teacher: Teacher) -> Any:
    if check == "judge":
        return second_opinion.support_request(trial.pair, Case(trial.pair, None).answer, teacher)
    return second_opinion.again(trial.pair, teacher)
