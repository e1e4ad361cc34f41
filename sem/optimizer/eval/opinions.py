"""What was found out by asking other models: sections of the report, tables, scores.json.

No prompt, answer or reason of a model is printed here; a provider's own words, which stand in
what ended a sitting, are set as code.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sem.core import markdown
from sem.core.errors import SemError
from sem.eval.judge import judge
from sem.eval.stats.paired_stats import Difference
from sem.optimizer.eval import lift
from sem.optimizer.eval.answering import CUT, MOST_TOKENS
from sem.optimizer.eval.intents import Intent
from sem.optimizer.eval.lift import Answered, Lift
from sem.optimizer.eval.optimizer_judge import Heard, Jury
from sem.optimizer.eval.preferences import Preference

Table = tuple[str, Sequence[str], list[Sequence[object]]]
LIFT = ("rewrites", "used", "measure", "raw", "rewritten", "points [95 %]", "pairs")
INTENT = ("prompts", "base keeps it", "tuned keeps it", "points [95 %]", "pairs")
BETTER = (
    "rewrites",
    "better",
    "worse",
    "tie",
    "tie by order",
    "same",
    "unscored",
    "points [95 %]",
)


@dataclass(frozen=True)
class Found:
    """What other models said: None and empty where they were not asked."""

    lift: Lift | None = None
    jury: Jury | None = None
    intents: tuple[Intent, ...] = ()
    preferences: tuple[Preference, ...] = ()
    sittings: tuple[Heard, ...] = ()

    @property
    def stopped(self) -> SemError | None:
        """Why the first sitting that ended early did so."""
        return next((heard.stopped for heard in self.sittings if heard.stopped), None)

    @property
    def tables(self) -> list[Table]:
        """Return every table, for a terminal."""
        tables: list[Table] = []
        if self.lift:
            rows = [_gain(gain) for gain in lift.gains(self.lift)]
            tables.append((f"{len(self.lift.rows)} questions, {self.lift.answerer}", LIFT, rows))
        if self.intents:
            tables.append(
                ("is the intent kept?", INTENT, [_intent(intent) for intent in self.intents])
            )
        if self.preferences:
            rows = [_preference(preference) for preference in self.preferences]
            tables.append(("which answer is better?", BETTER, rows))
        return tables


def opinion_lines(findings: Found) -> list[str]:
    """Return the sections of `findings` in Markdown."""
    lines: list[str] = []
    if findings.lift:
        lines += _answers(findings.lift)
    if findings.jury:
        lines += _judged(findings, findings.jury)
    return lines


def _answers(result: Lift) -> list[str]:
    rows, notes = result.rows, Counter(row.turned.note for row in result.rows)
    families = len({row.turned.question.family for row in rows})
    texts = {row.turned.question.prompt: row.raw for row in rows}
    texts |= {row.turned.rewrite: row.rewritten for row in rows if row.turned.rewrite}
    ends = Counter(answer.finish for answer in texts.values())
    faults = {name: count for name, count in ends.items() if name not in ("stop", CUT)}
    empty = sum(answer.is_scored and not answer.text.strip() for answer in texts.values())
    return [
        f"## Answers to {len(rows)} questions of {families} families",
        f"Answered by {result.answerer}, greedy, at most {MOST_TOKENS} tokens. Each question is "
        "asked as it is and as the tuned network rewrites it; where a rewrite is not used, as it "
        "is, which counts as a difference of 0. A client uses rewrites above 0.5 only.",
        "",
        markdown.grid(LIFT, [_gain(gain) for gain in lift.gains(result)]),
        "",
        f"Rewrites: {notes['too_long']} prompts are longer than the network reads and "
        f"{notes['empty']} rewrites are empty (asked as they are); {notes['cut']} were cut at the "
        "most tokens (used by `every rewrite`, never above 0.5). "
        f"Answers, each text once: {len(texts)}; {ends[CUT]} cut (scored), {empty} empty (score "
        f"0), without an answer (unscored): {_listed(faults)}.",
        "",
    ]


def _judged(findings: Found, jury: Jury) -> list[str]:
    states = Counter[str]()
    for intent in findings.intents:
        states.update(intent.states)
    spent = judge.spending_json(jury.spending)
    ended = [heard.stopped.message for heard in findings.sittings if heard.stopped]
    return [
        f"## The judge: {jury.name}",
        f"{spent['calls']} calls ({spent['cached']} from the ledger, {spent['requests']} HTTP "
        f"requests, ${spent['usd']:.6f}), {spent['canaries']} canaries, two calls each; faults: "
        f"{_listed(spent['faults'])}. Every question is asked in both orders.",
        *(f"Ended early, what was not heard is unscored: {_code(message)}" for message in ended),
        "",
        "Does the rewrite keep the intent of its prompt?",
        "",
        markdown.grid(INTENT, [_intent(intent) for intent in findings.intents]),
        "",
        f"How the rewrites of both networks were settled: {_listed(states)}. Undecided: the "
        "orders disagree.",
        "",
        *(_preferred(findings.preferences) if findings.preferences else ()),
    ]


def _preferred(preferences: Sequence[Preference]) -> list[str]:
    return [
        "Which answer is nearer to the reference, the rewritten prompt's or the raw one's?",
        "",
        markdown.grid(BETTER, [_preference(preference) for preference in preferences]),
        "",
        "Points: better less worse over all that are scored, ties included. Same: no rewrite was "
        "used, or both answers are one text.",
        "",
    ]


def _gain(gain: lift.Gain) -> Sequence[object]:
    return (
        gain.policy,
        gain.used,
        gain.measure,
        f"{gain.before:.1%}",
        f"{gain.after:.1%}",
        _points(gain.difference),
        _pairs(gain.difference),
    )


def _intent(intent: Intent) -> Sequence[object]:
    shares = [f"{count} of {of}" for count, of in zip(intent.kept, intent.decided, strict=True)]
    return intent.title, *shares, _points(intent.difference), _pairs(intent.difference)


def _preference(preference: Preference) -> Sequence[object]:
    return (
        preference.policy,
        preference.wins,
        preference.losses,
        preference.ties,
        preference.flips,
        preference.same,
        preference.unscored,
        _points(preference.difference),
    )


def _points(difference: Difference) -> str:
    return f"{difference.points:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


def _pairs(difference: Difference) -> str:
    return f"{difference.pairs}, {difference.unscored} unscored"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts)) or "none"


def _code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def opinion_scores(findings: Found) -> dict[str, Any]:
    """Return `findings` as scores.json holds it, beside the sets of prompts."""
    scores: dict[str, Any] = {}
    if findings.lift:
        notes = Counter(row.turned.note or "whole" for row in findings.lift.rows)
        scores["answers"] = {
            "questions": len(findings.lift.rows),
            "answerer": findings.lift.answerer,
            "rewrites": dict(notes),
            "gains": [
                {**asdict(gain), "difference": gain.difference.as_json()}
                for gain in lift.gains(findings.lift)
            ],
        }
    if findings.jury:
        kinds = {"intents": findings.intents, "preferences": findings.preferences}
        scores["judge"] = {
            "judge": findings.jury.settings.identity,
            "spending": judge.spending_json(findings.jury.spending),
            "stopped": [heard.stopped.message for heard in findings.sittings if heard.stopped],
            **{
                kind: [{**asdict(row), "difference": row.difference.as_json()} for row in rows]
                for kind, rows in kinds.items()
            },
        }
    return scores


def opinion_rows(result: Lift | None) -> list[dict[str, Any]]:
    """Return every question of `result` with both answers, as JSON rows.

    None where none was asked.
    """
    return [_row(row) for row in result.rows] if result else []


def _row(row: Answered) -> dict[str, Any]:
    turned = row.turned
    return {
        "id": turned.question.id,
        "family": turned.question.family,
        "prompt": turned.question.prompt,
        "reference": turned.question.reference,
        "rewrite": turned.rewrite,
        "note": turned.note,
        "confidence": turned.confidence,
        "raw": asdict(row.raw),
        "rewritten": asdict(row.rewritten),
        "raw_scores": row.raw_scores,
        "rewritten_scores": row.rewritten_scores,
    }
