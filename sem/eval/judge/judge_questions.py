"""What a judge has to look at in a run's answers, and the files its verdicts go to."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.slotspec import SlotFile
from sem.core.taskspec import TaskSpec
from sem.eval.answers import answers
from sem.eval.answers.answers import Answer, AnswerFile
from sem.eval.answers.subject import EvalSubject
from sem.eval.judge import judge, judge_prompts, verdicts
from sem.eval.judge.judge import Judge, JudgeItem
from sem.eval.judge.judge_config import JudgeSettings
from sem.eval.judge.judge_prompts import JudgeQuestion
from sem.eval.scoring import scoring
from sem.eval.scoring.align import NOTHING
from sem.eval.scoring.scoring import Score, SlotScore
from sem.eval.scoring.values import canonical_text

# The one slot of golden and pairwise: the answer as a whole.
ANSWER = "(answer)"


@dataclass(frozen=True)
class JudgeCase:
    """One example of a docket: its score by rules and what is left to ask."""

    score: Score
    item: JudgeItem


def verdicts_book(subject: EvalSubject, mode: str, settings: JudgeSettings) -> AnswerFile:
    """Return where verdicts of `subject` in `mode` go; the header is what they depend on."""
    name = "verdicts" if mode == "slots" else f"verdicts.{mode}"
    answers_path = subject.book.path
    header = {
        "format": "verdicts.v1",
        "mode": mode,
        "run": subject.run.id,
        "split": subject.split,
        "answers": files.sha256_file(answers_path) if answers_path.exists() else None,
        "tasks": {name: spec.fingerprint() for name, spec in subject.tasks.items()},
        "prompt": judge_prompts.VERSION,
        "judge": settings.identity,
    }
    return AnswerFile(
        subject.project.reports / subject.run.id / f"{name}.{subject.split}.jsonl", header
    )


def read_subject_answers(subject: EvalSubject) -> dict[str, Answer]:
    """Return the answers of `subject`.

    Raise SemError when there are none, or none to these examples.
    """
    where = f"`fab eval.generate --run {subject.run.id} --split {subject.split}`"
    if not subject.book.path.exists():
        raise SemError(f"run {subject.run.id} has no answers: {subject.book.path}", f"run {where}")
    if subject.book.is_stale():
        changes = "; ".join(subject.book.changes()) or "nobody says what"
        raise SemError(f"{subject.book.path} answers {changes}", f"run {where} again")
    return answers.read_answers(subject.book.path)


def slot_cases(subject: EvalSubject, answers_by_id: dict[str, Answer]) -> list[JudgeCase]:
    """Return every example, with questions on free texts that differ and on arguable failures."""
    return [
        build_slot_case(
            example, answers_by_id.get(example.id), subject.tasks[example.task], subject.shared
        )
        for example in subject.examples
    ]


def build_slot_case(
    example: Example, answer: Answer | None, spec: TaskSpec, shared: SlotFile | None = None
) -> JudgeCase:
    """Return one example's Case: rules first, the judge for what they leave open."""
    score = scoring.score_answer(example, answer, spec, None, shared)
    levels = scoring.levels_of(spec, example, shared)
    value = value_of(answer.text) if answer else None
    questions = []
    for name, slot in score.slots.items():
        is_open = slot.passed is None
        level = levels.get(name)
        is_arguable = level is not None and level.arguable and slot.passed is False and slot.said
        if is_open or is_arguable:
            reference, candidate = (
                value_at_path(example.output_json, name),
                value_at_path(value, name),
            )
            questions.append(
                JudgeQuestion(example.id, name, reference, candidate, rule_failed=not is_open)
            )
    return JudgeCase(score, JudgeItem(example.id, tuple(questions)))


def whole_answer_cases(
    mode: str, subject: EvalSubject, answers_by_id: dict[str, Answer], other: dict[str, Answer]
) -> list[JudgeCase]:
    """Return every example with its answer as a whole.

    `other` holds the baseline's, in pairwise mode.
    """
    return [
        whole_case(mode, e, answers_by_id.get(e.id), subject.tasks[e.task], other.get(e.id))
        for e in subject.examples
    ]


def whole_case(
    mode: str, example: Example, answer: Answer | None, spec: TaskSpec, other: Answer | None
) -> JudgeCase:
    """Return one example with the whole `answer` as its one slot.

    Equal values are decided by rule.
    """
    score = scoring.score_answer(example, answer, spec, None)
    candidate = parse_value_or_text(answer.text) if answer else None
    second = parse_value_or_text(other.text) if other else ""
    question = JudgeQuestion(example.id, ANSWER, example.output_json, candidate, second)
    questions: tuple[JudgeQuestion, ...] = (question,)
    slot = SlotScore(None, None, said=True, wanted=True)
    if answer is None:
        slot, questions = SlotScore(0.0, False, said=False, wanted=True), ()
    elif mode == "golden" and canonical_text(candidate) == canonical_text(example.output_json):
        slot, questions = SlotScore(5.0, True, said=True, wanted=True), ()
    elif mode == "pairwise" and canonical_text(candidate) == canonical_text(second):
        slot, questions = SlotScore(0.5, True, said=True, wanted=True), ()
    return JudgeCase(replace(score, slots={ANSWER: slot}), JudgeItem(example.id, questions))


def value_of(text: str) -> Any:
    """Return the JSON value of an answer's `text`: all of it, or the first object in it.

    None when there is neither.
    """
    value, *_ = answers.parse_answer_text(text)
    return None if value is NOTHING else value


def parse_value_or_text(text: str) -> Any:
    """Return the value of an answer's `text` where it has one, else the text."""
    value = value_of(text)
    return text if value is None else value


def value_at_path(value: Any, path: str) -> Any:
    """Return the part of `value` at a slot's `path`: `a`, `a.b`, or `a[].b`, which is a list."""
    if path == scoring.WHOLE or value is None:
        return value
    if isinstance(value, dict) and path in value:
        return value[path]
    head, _, rest = path.partition(".")
    inner = value.get(head.removesuffix("[]")) if isinstance(value, dict) else None
    if not rest:
        return inner
    if head.endswith("[]"):
        return [value_at_path(item, rest) for item in inner] if isinstance(inner, list) else None
    return value_at_path(inner, rest)


def judge_cases(llm_judge: Judge, cases: list[JudgeCase], target: AnswerFile) -> Iterator[str]:
    """Judge `cases` into `target`; yields each id that is settled.

    What is there is not asked again.

    A row that holds an unjudged slot is asked again; its good replies are in the ledger.
    """
    target.open()
    rows_by_id = verdicts.read_verdict_rows(target.path) if target.path.exists() else {}
    settled_ids = {
        name for name, line in rows_by_id.items() if line["status"] != verdicts.UNJUDGED
    }
    scores = {case.item.id: case.score for case in cases}
    yield from sorted(settled_ids & set(scores))
    with files.open_for_append(target.path) as file:
        for item, opinions in judge.judge_items(
            llm_judge, [case.item for case in cases], settled_ids
        ):
            pairs = zip(item.questions, opinions, strict=True)
            row = verdicts.verdict_row(
                scores[item.id], {q.slot: (q, opinion) for q, opinion in pairs}
            )
            if rows_by_id.get(item.id) != row:
                files.append_row(file, row)
            yield item.id


def summary_path(target: AnswerFile) -> Path:
    """Return where the summary of `target`'s verdicts stands: judge.SPLIT.json beside them."""
    return target.path.with_name(target.path.name.replace("verdicts", "judge", 1)).with_suffix(
        ".json"
    )
