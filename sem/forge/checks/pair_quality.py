"""Which pairs stay: rules first, then faithfulness, near-duplicates, and the teacher where asked.

A pair is dropped by the first check it fails, and is told apart by every check that ran: they are
in its provenance, kept or dropped. A check that cannot run (no passage to compare with) says so.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sem.core import schema
from sem.core.errors import SemError
from sem.dataset.clean import grounding, near_duplicates
from sem.forge import language
from sem.forge.base import Pair
from sem.forge.checks import faithfulness
from sem.forge.checks.faithfulness import CheckedPassage
from sem.forge.content_words import STOP, WORD, fold_case, stem_word
from sem.forge.language import detect_language
from sem.forge.teacher.prompts import PASSAGE
from sem.forge.teacher.teacher import Teacher
from sem.lm.api import redact

# Questions that were there before: nearly the same text, or nearly the same words.
#
# First the exact Jaccard index of 5-grams (`dataset.neardup`) of the question as it stands. Then
# the exact Jaccard index of its content words by their stems, so that "What does `?` do" and
# "Tell me what `?` is doing" meet. 5-grams of those words would not do: "cargo" and "error" have
# much in common. What is compared against (golden and test questions) comes first, so that a
# pair never pushes one of those out; of two pairs the first stays.

# How a question is opened tells nothing of what it is about, but for these.
ASKS = frozenset(
    "how why when where who warum wie wann wo wer comment pourquoi quand cómo".split()  # noqa: SIM905
)
OPENERS = frozenset(
    """
explain describe tell please purpose mean meaning state name give define role exactly actually
basically happens happen work works question answer
""".split()  # noqa: SIM905
)
OPENING = frozenset(map(stem_word, OPENERS))
# `?` and `&` are what some questions are about.
SIGNS = re.compile(r"[^\w\s]+")


@dataclass(frozen=True)
class NearQuestion:
    """What a question is near to."""

    where: str  # golden, test or pair
    other: str  # that question


def near_questions(
    questions: Sequence[str], others: Sequence[tuple[str, str]], threshold: float, words: float
) -> dict[int, NearQuestion]:
    """For each of `questions` that is near an earlier one or one of `others` (where, question),
    which.

    `threshold`: Jaccard index of 5-grams of the text; `words`: of its content words.
    """
    texts = [text for _, text in others] + list(questions)
    first = near_duplicates.of_texts(texts, threshold).first
    by_words = _by_words([question_stems(text) for text in texts], words)
    neighbours: dict[int, NearQuestion] = {}
    for row in range(len(others), len(texts)):
        head = first[row] if first[row] != row else by_words.get(row)
        if head is not None:
            where = others[head][0] if head < len(others) else "pair"
            neighbours[row - len(others)] = NearQuestion(where, texts[head])
    return neighbours


def _by_words(sets: Sequence[frozenset[str]], least: float) -> dict[int, int]:
    """For each row the first earlier one whose set agrees with its own by `least` (Jaccard).

    Two such sets share one of their rarest words, of each so many as could be missing and one
    more (prefix filtering, Bayardo et al. 2007), so only those are looked up.
    """
    rarity = Counter(word for row_words in sets for word in row_words)
    rows_of: dict[str, list[int]] = defaultdict(list)
    heads: dict[int, int] = {}
    for row, own in enumerate(sets):
        ordered = sorted(own, key=lambda word: (rarity[word], word))
        rarest = ordered[: len(own) - math.ceil(least * len(own)) + 1]
        ahead = sorted({other for word in rarest for other in rows_of[word]})
        head = next((o for o in ahead if _jaccard(own, sets[o]) >= least), None)
        if head is not None:
            heads[row] = head
        for word in rarest if head is None else ():
            rows_of[word].append(row)
    return heads


def _jaccard(own: frozenset[str], other: frozenset[str]) -> float:
    return len(own & other) / len(own | other)


def question_stems(question: str) -> frozenset[str]:
    """Return the content words of `question` by their stems; code keeps its signs.

    `&mut` is not `mut`.
    """
    folded = fold_case(question)
    code = [part for part in re.findall(r"`([^`]*)`", folded) if SIGNS.search(part)]
    words = {stem_word(word) for word in WORD.findall(folded) if word not in STOP or word in ASKS}
    return frozenset((words - OPENING) | {"".join(part.split()) for part in code})


# What speaks against a pair by its own text: length, language, refusal, leak, loops, secrets.
#
# Each rule is a function of a Case that gives the reason to drop it, or None.

REFUSAL = re.compile(
    r"\A\W*(?:i['\u2019]?m (?:really |very )?sorry|i am sorry|sorry,|i apologi[sz]e"
    r"|i can(?:no|['\u2019])t"
    r"|i can not|i(?:['\u2019]m| am) (?:unable|not able)|i (?:won['\u2019]t|will not) |as an ai\b"
    r"|as a (?:large )?language model|es tut mir leid|ich kann (?:das|diese|ihnen|dir)? ?nicht"
    r"|je suis désolé|je ne peux pas|lo siento|no puedo |申し訳|すみません|抱歉|对不起)",
    re.I,
)
_TEXT = "(?:passage|text|document|excerpt|context)"
NO_ANSWER = re.compile(
    r"\b(?:(?:is|are|was|were)(?: not|n['\u2019]t) (?:specified|mentioned|stated|provided|given|"
    rf"described|discussed) in the|{_TEXT} (?:does|do)(?: not|n['\u2019]t)|"
    rf"not (?:specified|mentioned|stated|provided) (?:in|by) the {_TEXT}|"
    r"no information (?:is|was) (?:given|provided))"
    # Not "None": that is an answer about Rust.
    r"|\A\W*(?:n/a|not applicable|not specified|not mentioned)\W*\Z",
    re.I,
)
_SOURCE = "(?:passage|text|excerpt|document|article|section|chapter|paragraph|author|context)"
LEAK = re.compile(
    r"\b(?:(?:according to|based on|as (?:stated|mentioned|described|shown|explained) (?:in|by)) "
    rf"(?:the|this|that) (?:\w+ )?{_SOURCE}\b"
    r"|(?:in|from|per|by) (?:the|this|that) (?:\w+ )?(?:passage|excerpt|section|chapter|author)\b"
    rf"|the {_SOURCE}s? (?:\w+ )?(?:says?|states?|mentions?|describes?|explains?|discuss(?:es)?|"
    r"suggests?|emphasi[sz]es?)\b"
    r"|the (?:provided|given|above) (?:passage|text|excerpt|document|context|information)\b"
    r"|as an ai\b|as a (?:large )?language model\b"
    r"|(?:laut|gemäß) (?:dem|diesem) (?:text|abschnitt|dokument|artikel)"
    r"|im (?:obigen )?(?:text|abschnitt) (?:wird|steht|heißt)"
    r"|(?:selon|d['\u2019]après) (?:le|ce|la|cette) (?:texte|passage|document|article|section)"
    r"|según (?:el|este) (?:texto|pasaje|documento))"
    r"|(?:文章|本文|文書|テキスト)(?:によると|では|に書)|根据(?:文章|本文|上文|文中)",
    re.I,
)
_SHOWN = (
    "(?:section|chapter|passage|paragraph|excerpt|listing|figure|table|snippet|example|code|text|"
    "document|article|lesson|function|program|method|output|line|list|image|diagram|definition)s?"
)
# What only someone who sees the passage can understand.
POINTS = re.compile(
    rf"\b(?:this|these|that) (?:\w+ )?{_SHOWN}\b"
    rf"|\bthe (?:\w+ )?{_SHOWN} (?:above|below|shown|given|provided)\b"
    r"|\bthe (?:above|below|following|preceding|given|provided|aforementioned) \w+"
    r"|\b(?:listing|figure|table|example|section|chapter) \d+(?:[.\-\u2013]\d+)*\b"
    r"|\bmentioned (?:above|below|here|earlier)\b|\bthe (?:author|passage|speaker)s?\b"
    r"|\b(?:dieser|diesem|diesen|dieses) (?:abschnitt|text|kapitel|beispiel|code)s?\b"
    r"|\b(?:ce|cette|cet) (?:section|texte|chapitre|exemple|code|passage)\b"
    r"|(?:この(?:章|節|文章|例|コード|セクション)|上記の|以下の)",
    re.I,
)
BLOCK = re.compile(r"```|\n {4}\S")
# Words that come again and again.
LOOP = 4
# Share of such runs of words that came before: small models get stuck.
LOOPED = 0.5
# Words from which on a text can be told to loop.
FEWEST = 24


@dataclass(frozen=True)
class PairCase:
    """A pair and what the rules read of it."""

    pair: Pair
    # The language it is to be in; None: any.
    expected: str | None

    @property
    def question(self) -> str:
        return self.pair.prompt

    @cached_property
    def answer(self) -> str:
        """Return the texts of the answer, one a line."""
        return "\n".join(str(value) for _, value in grounding.scalar_leaves(self.pair.output))

    @property
    def both(self) -> str:
        return f"{self.question}\n{self.answer}"


@dataclass(frozen=True)
class LengthLimits:
    """How long a question and an answer may be, in characters."""

    min_question: int
    max_question: int
    min_answer: int
    max_answer: int


def check_pair_length(case: PairCase, least: LengthLimits) -> str | None:
    """Return whether question and answer are within their lengths."""
    for name, text in (("question", case.question), ("answer", case.answer)):
        size = len(text.strip())
        if size < getattr(least, f"min_{name}"):
            return f"{name}_too_short"
        if size > getattr(least, f"max_{name}"):
            return f"{name}_too_long"
    return None


def check_secrets(case: PairCase) -> str | None:
    """Return a key that a provider echoed, or what looks like one."""
    text = case.both
    return "secret" if redact.MASK in text or redact.redact_secrets(text) != text else None


def check_refusal(case: PairCase) -> str | None:
    """Return the teacher declined, in the question or in the answer."""
    return "refusal" if any(map(REFUSAL.search, (case.question, case.answer))) else None


def check_no_answer(case: PairCase) -> str | None:
    """Return the reason to drop a pair whose answer says that there is none."""
    return "no_answer" if NO_ANSWER.search(case.answer) else None


def check_leak(case: PairCase) -> str | None:
    """Question or answer speaks of the passage, or of being a model."""
    return "leak" if any(map(LEAK.search, (case.question, case.answer))) else None


def check_standalone(case: PairCase) -> str | None:
    """Return the question points at something that only the passage shows."""
    # With the code in the question, "this code" points at that.
    if BLOCK.search(case.question) or case.pair.input:
        return None
    return "not_standalone" if POINTS.search(case.question) else None


def check_repetition(case: PairCase) -> str | None:
    """Return the answer repeats itself, or only the question."""
    question_words, answer_words = (
        text.casefold().split() for text in (case.question, case.answer)
    )
    if question_words == answer_words:
        return "answer_is_question"
    runs = [tuple(answer_words[n : n + LOOP]) for n in range(len(answer_words) - LOOP + 1)]
    is_stuck = len(answer_words) >= FEWEST and len(set(runs)) < (1 - LOOPED) * len(runs)
    return "loop" if is_stuck else None


def check_pair_language(case: PairCase) -> str | None:
    """Question or answer is in another language than expected; too little text is in none."""
    if case.expected is None:
        return None
    languages = [detect_language(text) for text in (case.question, case.answer)]
    return (
        "wrong_language"
        if any(language not in (None, case.expected) for language in languages)
        else None
    )


RULES: dict[str, Callable[[PairCase], str | None]] = {
    "secret": check_secrets,
    "refusal": check_refusal,
    "no_answer": check_no_answer,
    "leak": check_leak,
    "standalone": check_standalone,
    "loop": check_repetition,
    "language": check_pair_language,
}


def expected_language(pair: Pair, setting: str) -> str | None:
    """Return the language `pair` is to be in, as `setting` says.

    `setting` is `same` (as its passage), `any` or a code.
    """
    if setting == "any":
        return None
    return detect_language(str(pair.provenance.get(PASSAGE, ""))) if setting == "same" else setting


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
    def lengths(self) -> LengthLimits:
        """Return the four limits of length."""
        return LengthLimits(self.min_question, self.max_question, self.min_answer, self.max_answer)


@dataclass(frozen=True)
class PairVerdict:
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
class QualityContext:
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

    def verdict(self) -> PairVerdict:
        provenance = {
            name: value for name, value in self.pair.provenance.items() if name != PASSAGE
        }
        provenance |= {"checks": self.checks, "reason": self.reason}
        pair = replace(self.pair, provenance=provenance)
        return PairVerdict(pair, self.reason is None, self.reason, self.checks)


def sift_pairs(pairs: Iterable[Pair], context: QualityContext) -> Iterator[PairVerdict]:
    """Yield a Verdict on every one of `pairs`, in their order; all are held, about 3 kB each."""
    trials = [_alone(pair, context) for pair in pairs]
    (_compared if context.settings.near else _held_apart)(trials, context)
    for check in ("judge", "consistent"):
        if getattr(context.settings, check) and context.teacher is not None:
            _asked(trials, check, context.settings, context.teacher)
    for trial in trials:
        yield trial.verdict()


def _alone(pair: Pair, context: QualityContext) -> _Trial:
    """Return `pair` after the checks that need nothing else.

    What is too long is not read any further.
    """
    trial, settings = _Trial(pair), context.settings
    trial.note("length", *_passed(check_pair_length(PairCase(pair, None), settings.lengths)))
    if trial.reason in ("question_too_long", "answer_too_long"):
        return trial
    if context.schemas:
        trial.note("schema", *_passed(_misfit(pair, context)))
    case = PairCase(pair, expected_language(pair, settings.language))
    for name, rule in RULES.items() if settings.rules else ():
        trial.note(name, *_passed(rule(case)))
    if settings.faithful:
        _supported(trial, case, settings)
    return trial


def _misfit(pair: Pair, context: QualityContext) -> str | None:
    """Return whether the answer of `pair` is outside the answers of its task.

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


def _supported(trial: _Trial, case: PairCase, settings: Quality) -> None:
    if not trial.has_passage:
        trial.note("faithful", NO_PASSAGE, None)
        return
    provenance = trial.pair.provenance
    spoken = language.detect_language(str(provenance[PASSAGE]))
    if None not in (spoken, case.expected) and spoken != case.expected:
        trial.note("faithful", OTHER_LANGUAGE, None)
        return
    also = (*map(str, provenance.get("headings", ())), trial.pair.source)
    support = CheckedPassage(str(provenance[PASSAGE]), also).support(
        trial.pair.output, case.question
    )
    if case.expected in NO_NAMES:
        support = replace(support, names=())
    trial.note("faithful", round(support.words, 4), support.fault(settings.min_support))


def _compared(trials: list[_Trial], context: QualityContext) -> None:
    """Note what is near to what, among those that passed so far."""
    passing = [trial for trial in trials if trial.reason is None]
    neighbours = near_questions(
        [trial.pair.prompt for trial in passing],
        context.others,
        context.settings.near_threshold,
        context.settings.near_words,
    )
    for number, trial in enumerate(passing):
        near = neighbours.get(number)
        trial.note("near", near is None, None if near is None else f"near_{near.where}")


def _held_apart(trials: list[_Trial], context: QualityContext) -> None:
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
            trial.note(check, *faithfulness.read_support(outcome))
        else:
            answer = PairCase(trial.pair, None).answer
            trial.note(
                check, *faithfulness.answer_agreement(outcome, answer, settings.min_agreement)
            )


def _question(trial: _Trial, check: str, teacher: Teacher) -> Any:
    if check == "judge":
        return faithfulness.support_request(trial.pair, PairCase(trial.pair, None).answer, teacher)
    return faithfulness.repeat_question_request(trial.pair, teacher)
