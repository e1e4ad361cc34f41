"""One sitting of the judge: a run's answers, what is asked about them, and what came of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.eval.answers import subject
from sem.eval.answers.answers import AnswerFile
from sem.eval.answers.subject import EvalSubject
from sem.eval.judge import judge, judge_config, judge_prompts, judge_questions, verdicts
from sem.eval.judge.judge import Judge
from sem.eval.judge.judge_questions import JudgeCase
from sem.eval.judge.verdicts import SlotVerdict


@dataclass(frozen=True)
class JudgeSession:
    """What a sitting has before it."""

    run: str
    judge: Judge
    cases: list[JudgeCase]
    book: AnswerFile

    def hear(self) -> Iterator[str]:
        """Judge what is open, one id a time; the summary is written however the sitting ends."""
        lock = self.book.path.with_suffix(".lock")
        with files.lock_file(lock, f"{self.book.path.name} of {self.run}"):
            void = None
            try:
                yield from judge_questions.judge_cases(self.judge, self.cases, self.book)
            except SemError as error:
                void = error.message
                raise
            finally:
                files.write_file(
                    judge_questions.summary_path(self.book),
                    jsonio.pretty_json(session_summary(self, void)),
                )


def open_session(
    project: Project,
    run_id: str | None,
    split: str,
    version: int | None,
    mode: str,
    baseline: str,
    at: datetime,
) -> JudgeSession:
    """Return the Session of `run_id` on `split` in `mode`.

    Raise SemError when no judge is configured.
    """
    settings = judge_config.load_judge_config(project)
    client = judge_config.judge_client(project, settings, at)
    side = subject.resolve_subject(project, run_id, split, version)
    answers_by_id = judge_questions.read_subject_answers(side)
    if mode == "slots":
        cases = judge_questions.slot_cases(side, answers_by_id)
    elif mode == "golden":
        cases = judge_questions.whole_answer_cases(mode, side, answers_by_id, {})
    else:
        other = subject.resolve_subject(project, baseline, split, side.frozen.version)
        cases = judge_questions.whole_answer_cases(
            mode, side, answers_by_id, judge_questions.read_subject_answers(other)
        )
    transcript = project.reports / f"judge_run_{at:%Y%m%dT%H%M%SZ}.jsonl"
    llm_judge = Judge(judge_prompts.MODES[mode], settings, client, transcript)
    return JudgeSession(
        side.run.id, llm_judge, cases, judge_questions.verdicts_book(side, mode, settings)
    )


def session_summary(session: JudgeSession, stopped: str | None = None) -> dict[str, Any]:
    """judge.SPLIT.json: rates over every example, counts of what has no verdict, and the cost."""
    rows = verdicts.read_verdict_rows(session.book.path) if session.book.path.exists() else {}
    ids = {case.item.id for case in session.cases}
    rows_by_id = {name: row for name, row in rows.items() if name in ids}
    client = session.judge.client
    return {
        "format": "judge.v1",
        **verdicts.verdict_summary(rows_by_id),
        "examples_without_verdict": len(ids - set(rows_by_id)),
        "stopped": stopped,
        "header": session.book.header,
        "spending": judge.spending_json(session.judge.spending),
        "account": {"name": client.account, **vars(client.ledger.spent(client.account))},
        "transcript": session.judge.transcript.name,
    }


def summary_rows(session: JudgeSession) -> list[tuple[str, object]]:
    """Return the summary as table rows."""
    summary = session_summary(session)
    keys = ("total_examples", "judged_examples", "by_rule_examples", "missing_candidates")
    states = ("judged_slots", "undecided_slots", "unjudged_slots")
    spent = summary["spending"]
    rate = summary["overall_pass_rate"]
    return [
        *((key.replace("_", " "), summary[key]) for key in (*keys, *states)),
        ("overall pass rate", "-" if rate is None else f"{rate * 100:.1f} %"),
        ("canaries, all as they should be", spent["canaries"]),
        (
            "calls / from the ledger / requests",
            f"{spent['calls']} / {spent['cached']} / {spent['requests']}",
        ),
        ("spent now", f"${spent['usd']:.6f}"),
        (f"spent on {summary['account']['name']!r}", f"${summary['account']['usd']:.6f}"),
    ]


def estimate_session(session: JudgeSession) -> list[tuple[str, object]]:
    """Return what the whole sitting would cost, as table rows.

    Replies in the ledger cost nothing.
    """
    settled_rows = (
        verdicts.read_verdict_rows(session.book.path) if not _is_new(session.book) else {}
    )
    items = [case.item for case in session.cases]
    open_items = [item for item in items if item.id not in settled_rows]
    estimate = session.judge.estimate(items if open_items else [])
    cap = session.judge.settings.calls.max_usd
    return [
        ("examples", len(session.cases)),
        ("questions", sum(len(item.questions) for item in open_items)),
        ("calls, canaries and both orders included", estimate.calls),
        ("calls with a reply in the ledger", estimate.cached),
        ("tokens in / out, about", f"{estimate.tokens_in:,} / {estimate.tokens_out:,}"),
        ("cost, about", f"${estimate.likely_usd:.4f}"),
        ("cost, at most reserved", f"${estimate.at_most_usd:.4f}"),
        ("cap", "none" if cap is None else f"${cap:.4f} a {session.judge.settings.calls.period}"),
    ]


def _is_new(book: AnswerFile) -> bool:
    return not book.path.exists() or book.is_stale()


def current_verdicts(
    side: EvalSubject,
) -> tuple[dict[tuple[str, str], SlotVerdict], dict[str, Any]]:
    """Return the verdicts on `side`'s answers and the identity of their judge.

    Both empty without any.

    Verdicts on other answers, or under other TaskSpecs, are none.
    """
    path = side.project.reports / side.run.id / f"verdicts.{side.split}.jsonl"
    header_path = path.with_suffix(".json")
    if not path.exists() or not header_path.exists() or not side.book.path.exists():
        return {}, {}
    header = state.read_state_file(header_path, state.VerdictsHeader)
    tasks = {name: spec.fingerprint() for name, spec in side.tasks.items()}
    if (header["answers"], header["tasks"]) != (files.sha256_file(side.book.path), tasks):
        return {}, {}
    return verdicts.load_verdicts(path), header["judge"]
