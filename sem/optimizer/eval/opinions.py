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
        made: list[Table] = []
        if self.lift:
            rows = [_gain(gain) for gain in lift.gains(self.lift)]
            made.append((f"{len(self.lift.rows)} questions, {self.lift.answerer}", LIFT, rows))
        if self.intents:
            made.append(("is the intent kept?", INTENT, [_intent(one) for one in self.intents]))
        if self.preferences:
            rows = [_preference(one) for one in self.preferences]
            made.append(("which answer is better?", BETTER, rows))
        return made


def opinion_lines(found: Found) -> list[str]:
    """Return the sections of `found` in Markdown."""
    made: list[str] = []
    if found.lift:
        made += _answers(found.lift)
    if found.jury:
        made += _judged(found, found.jury)
    return made


def _answers(found: Lift) -> list[str]:
    rows, notes = found.rows, Counter(row.turned.note for row in found.rows)
    families = len({row.turned.question.family for row in rows})
    texts = {row.turned.question.prompt: row.raw for row in rows}
    texts |= {row.turned.rewrite: row.rewritten for row in rows if row.turned.rewrite}
    ends = Counter(said.finish for said in texts.values())
    faults = {name: count for name, count in ends.items() if name not in ("stop", CUT)}
    empty = sum(said.is_scored and not said.text.strip() for said in texts.values())
    return [
        f"## Answers to {len(rows)} questions of {families} families",
        f"Answered by {found.answerer}, greedy, at most {MOST_TOKENS} tokens. Each question is "
        "asked as it is and as the tuned network rewrites it; where a rewrite is not used, as it "
        "is, which counts as a difference of 0. A client uses rewrites above 0.5 only.",
        "",
        markdown.grid(LIFT, [_gain(gain) for gain in lift.gains(found)]),
        "",
        f"Rewrites: {notes['too_long']} prompts are longer than the network reads and "
        f"{notes['empty']} rewrites are empty (asked as they are); {notes['cut']} were cut at the "
        "most tokens (used by `every rewrite`, never above 0.5). "
        f"Answers, each text once: {len(texts)}; {ends[CUT]} cut (scored), {empty} empty (score "
        f"0), without an answer (unscored): {_listed(faults)}.",
        "",
    ]


def _judged(found: Found, jury: Jury) -> list[str]:
    states = Counter[str]()
    for one in found.intents:
        states.update(one.states)
    spent = judge.spending_json(jury.spending)
    ended = [heard.stopped.message for heard in found.sittings if heard.stopped]
    return [
        f"## The judge: {jury.name}",
        f"{spent['calls']} calls ({spent['cached']} from the ledger, {spent['requests']} HTTP "
        f"requests, ${spent['usd']:.6f}), {spent['canaries']} canaries, two calls each; faults: "
        f"{_listed(spent['faults'])}. Every question is asked in both orders.",
        *(f"Ended early, what was not heard is unscored: {_code(message)}" for message in ended),
        "",
        "Does the rewrite keep the intent of its prompt?",
        "",
        markdown.grid(INTENT, [_intent(one) for one in found.intents]),
        "",
        f"How the rewrites of both networks were settled: {_listed(states)}. Undecided: the "
        "orders disagree.",
        "",
        *(_preferred(found.preferences) if found.preferences else ()),
    ]


def _preferred(found: Sequence[Preference]) -> list[str]:
    return [
        "Which answer is nearer to the reference, the rewritten prompt's or the raw one's?",
        "",
        markdown.grid(BETTER, [_preference(one) for one in found]),
        "",
        "Points: better less worse over all that are scored, ties included. Same: no rewrite was "
        "used, or both answers are one text.",
        "",
    ]


def _gain(one: lift.Gain) -> Sequence[object]:
    return (
        one.policy,
        one.used,
        one.measure,
        f"{one.before:.1%}",
        f"{one.after:.1%}",
        _points(one.difference),
        _pairs(one.difference),
    )


def _intent(one: Intent) -> Sequence[object]:
    shares = [f"{kept} of {of}" for kept, of in zip(one.kept, one.decided, strict=True)]
    return one.title, *shares, _points(one.difference), _pairs(one.difference)


def _preference(one: Preference) -> Sequence[object]:
    return (
        one.policy,
        one.wins,
        one.losses,
        one.ties,
        one.flips,
        one.same,
        one.unscored,
        _points(one.difference),
    )


def _points(one: Difference) -> str:
    return f"{one.points:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"


def _pairs(one: Difference) -> str:
    return f"{one.pairs}, {one.unscored} unscored"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts)) or "none"


def _code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def opinion_scores(found: Found) -> dict[str, Any]:
    """Return `found` as scores.json holds it, beside the sets of prompts."""
    made: dict[str, Any] = {}
    if found.lift:
        notes = Counter(row.turned.note or "whole" for row in found.lift.rows)
        made["answers"] = {
            "questions": len(found.lift.rows),
            "answerer": found.lift.answerer,
            "rewrites": dict(notes),
            "gains": [
                {**asdict(gain), "difference": gain.difference.as_json()}
                for gain in lift.gains(found.lift)
            ],
        }
    if found.jury:
        kinds = {"intents": found.intents, "preferences": found.preferences}
        made["judge"] = {
            "judge": found.jury.settings.identity,
            "spending": judge.spending_json(found.jury.spending),
            "stopped": [heard.stopped.message for heard in found.sittings if heard.stopped],
            **{
                kind: [{**asdict(one), "difference": one.difference.as_json()} for one in said]
                for kind, said in kinds.items()
            },
        }
    return made


def opinion_rows(found: Lift | None) -> list[dict[str, Any]]:
    """Return every question of `found` with both answers, as JSON rows.

    None where none was asked.
    """
    return [_row(one) for one in found.rows] if found else []


def _row(one: Answered) -> dict[str, Any]:
    turned = one.turned
    return {
        "id": turned.question.id,
        "family": turned.question.family,
        "prompt": turned.question.prompt,
        "reference": turned.question.reference,
        "rewrite": turned.rewrite,
        "note": turned.note,
        "confidence": turned.confidence,
        "raw": asdict(one.raw),
        "rewritten": asdict(one.rewritten),
        "raw_scores": one.raw_scores,
        "rewritten_scores": one.rewritten_scores,
    }
