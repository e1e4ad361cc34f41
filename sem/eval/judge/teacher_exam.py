"""The teacher sits the exam it will set: the golden questions, scored like any model's answers.

It answers without the documents, as a forge's own checks read what it makes of them. A teacher
that knows a subject badly words its questions badly, too; go or no-go is a person's threshold.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sem.core import files, jsonio, slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.slotspec import SlotFile
from sem.eval.answers import answers, golden
from sem.eval.answers.answers import Answer
from sem.eval.config import EvalSettings
from sem.eval.scoring import metrics, scoring, similarity
from sem.eval.scoring.scoring import Score
from sem.eval.scoring.slots import Similarity
from sem.eval.stats.paired_stats import clopper_pearson
from sem.lm.api.calls import CallOutcome, ChatRequest
from sem.lm.weights import weights

VERSION = "exam-1"
ROWS = 50
NAME = "forge_teacher.json"
ASK = "Reply with one JSON value of this schema and nothing else: "


class ExamTeacher(Protocol):
    """What is asked: a teacher of the forge, which this floor does not know."""

    def request(
        self, messages: tuple[tuple[str, str], ...], schema: dict[str, Any] | None, version: str
    ) -> ChatRequest: ...

    def answered(
        self, items: Iterable[tuple[Example, ChatRequest]]
    ) -> Iterator[tuple[Example, ChatRequest, CallOutcome]]: ...


@dataclass(frozen=True)
class Exam:
    """Golden examples and what they are scored by."""

    project: Project
    examples: tuple[Example, ...]
    # Golden examples there are.
    of: int
    shared: SlotFile
    closeness: Similarity | None


@dataclass(frozen=True)
class ExamResult:
    """What came of an exam."""

    scores: tuple[Score, ...]
    faults: dict[str, int] = field(default_factory=dict)
    least: float = 0.5

    @property
    def right(self) -> int:
        """Answers with every field right."""
        return sum(_is_right(score) for score in self.scores)

    @property
    def share(self) -> float:
        return self.right / len(self.scores)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % (Clopper-Pearson) around the share."""
        return clopper_pearson(self.right, len(self.scores))

    @property
    def is_go(self) -> bool:
        """Return the share reaches the threshold."""
        return self.share >= self.least

    @property
    def verdict(self) -> str:
        """Return one sentence for a person."""
        low, high = (100 * end for end in self.interval)
        sentence = (
            f"{self.right} of {len(self.scores)} right, {100 * self.share:.1f} % "
            f"(95 %: {low:.1f} to {high:.1f} %), wanted {100 * self.least:.0f} %"
        )
        if low < 100 * self.least <= high:
            sentence += "; the interval holds the threshold, more golden questions would tell"
        return f"{'GO' if self.is_go else 'NO-GO'}: {sentence}"


def prepare_exam(project: Project, rows: int = ROWS) -> Exam:
    """Return `rows` golden examples of `project`, spread over domains.

    Raise SemError when there are none.
    """
    settings = project.settings("eval", EvalSettings)
    pool = golden.golden_examples(project)
    examples = answers.sample_examples(pool, rows, settings.seed)
    shared = slotspec.load_slot_levels(project.root / "configs" / "judge_slots.yaml")
    closeness = _similarity(project, examples, shared, settings.similarity_model)
    return Exam(project, tuple(examples), len(pool), shared, closeness)


def _similarity(
    project: Project, examples: Sequence[Example], shared: SlotFile, named: str | None
) -> Similarity | None:
    """Return the scorer of free texts, where a field needs one.

    Raise SemError when it is switched off.
    """
    levels = [
        level.level
        for example in examples
        for level in scoring.levels_of(project.tasks[example.task], example, shared).values()
    ]
    if "llm_similarity" not in levels:
        return None
    if named is None:
        raise SemError(
            "a field of level llm_similarity needs similarity_model, which eval.yaml switches off",
            "name one there, or choose another level in the TaskSpec's rubric",
        )
    return similarity.load_similarity(weights.resolve_weights(named, project.root).folder)


def build_exam_requests(exam: Exam, teacher: ExamTeacher) -> list[tuple[Example, ChatRequest]]:
    """Return each example of `exam` as it is asked."""
    return [(example, _request(exam.project, example, teacher)) for example in exam.examples]


def _request(project: Project, example: Example, teacher: ExamTeacher) -> ChatRequest:
    spec = project.tasks[example.task]
    system = example.system_prompt or spec.system_prompt
    text = f"{spec.prompt(example.input_text)}\n\n{ASK}{jsonio.canonical_json(spec.io_schema)}"
    return teacher.request((("system", system), ("user", text)), spec.io_schema, VERSION)


def run_teacher_exam(exam: Exam, teacher: ExamTeacher, least: float) -> ExamResult:
    """Return the scores of the replies of `teacher`; an unusable one is a wrong answer."""
    scores: list[Score] = []
    faults: dict[str, int] = {}
    for example, _, outcome in teacher.answered(build_exam_requests(exam, teacher)):
        if outcome.fault:
            faults[outcome.fault] = faults.get(outcome.fault, 0) + 1
        spec = exam.project.tasks[example.task]
        answer = _answer(example, outcome)
        scores.append(scoring.score_answer(example, answer, spec, exam.closeness, exam.shared))
    return ExamResult(tuple(scores), dict(sorted(faults.items())), least)


def _answer(example: Example, outcome: CallOutcome) -> Answer | None:
    if not outcome.is_usable:
        return None
    counts = (outcome.tokens_in, outcome.tokens_out, outcome.latency_ms)
    return Answer(
        example.id, example.task, jsonio.canonical_json(outcome.value), "stop", *counts, 1
    )


def _is_right(score: Score) -> bool:
    return score.schema_valid and all(slot.passed for slot in score.slots.values())


def write_exam(exam: Exam, result: ExamResult, teacher: str) -> Path:
    """forge_teacher.json: the verdict, the figures, and each question with what became of it."""
    figures = metrics.compute_totals(result.scores)
    low, high = result.interval
    report = {
        "format": "forge_teacher.v1",
        "teacher": teacher,
        "prompt_version": VERSION,
        "golden": {"rows": len(result.scores), "of": exam.of},
        "verdict": "go" if result.is_go else "no-go",
        "least": result.least,
        "right": result.right,
        "share": round(result.share, 6),
        "interval": [round(low, 6), round(high, 6)],
        "faults": result.faults,
        "accuracy": figures["accuracy"],
        "schema_valid": figures["schema_valid"],
        "fields": figures["fields"],
        "questions": {score.id: _is_right(score) for score in result.scores},
    }
    return files.write_file(exam.project.reports / NAME, jsonio.pretty_json(report))


def exam_table(exam: Exam, result: ExamResult) -> list[tuple[str, str]]:
    """Return what a script shows of `result`."""
    figures = metrics.compute_totals(result.scores)
    rows = [
        ("golden questions", f"{len(result.scores)} of {exam.of}"),
        ("right", str(result.right)),
        ("field accuracy", f"{100 * figures['accuracy']:.1f} %"),
        ("fits the schema", f"{100 * figures['schema_valid']:.1f} %"),
    ]
    return rows + [(f"unusable: {name}", str(count)) for name, count in result.faults.items()]
