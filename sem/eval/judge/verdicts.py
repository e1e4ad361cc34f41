"""Verdicts: a judge's opinion of each answer, a row an example, and what they do to scores.

    {"id", "task", "status", "overall": {pass, score, notes},
     "slots": {name: {pass, score, reason}},
     "judged": {name: {state, passed, score, reason, rule_failed}}}

`slots` holds every compared slot, by rule or by judge; one without a decision has pass false and
is told apart in `judged` by its state: undecided and unjudged are never passes and never dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import files, schema
from sem.core.errors import SemError
from sem.eval.judge.judge_prompts import JudgeQuestion, Opinion
from sem.eval.scoring.scoring import Score, SlotScore

JUDGED, MISSING, BY_RULE, UNJUDGED = "judged", "missing_candidate", "by_rule", "unjudged"
STATES = ("judged", "undecided", "unjudged")
_PASS = {"pass": {"type": "boolean"}, "score": {"type": "number"}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "task", "status", "overall", "slots", "judged"],
    "properties": {
        "id": {"type": "string"},
        "task": {"type": "string"},
        "status": {"enum": [JUDGED, MISSING, BY_RULE, UNJUDGED]},
        "overall": {
            "type": "object",
            "additionalProperties": False,
            "required": ["pass", "score", "notes"],
            "properties": {**_PASS, "notes": {"type": "string"}},
        },
        "slots": {
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["pass", "score", "reason"],
                "properties": {**_PASS, "reason": {"type": "string"}},
            },
        },
        "judged": {
            "additionalProperties": {
                "type": "object",
                "required": ["state", "passed", "score", "reason", "rule_failed"],
                "properties": {
                    "state": {"enum": list(STATES)},
                    "passed": {"type": ["boolean", "null"]},
                    "rule_failed": {"type": "boolean"},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class SlotVerdict:
    """A judge's opinion of one slot; `passed` is None where it has none."""

    # Judged | undecided | unjudged.
    state: str
    passed: bool | None
    score: float | None
    reason: str
    # The rule's fail stands where the judge does not decide.
    rule_failed: bool = False


def verdict_row(
    score: Score, opinions: Mapping[str, tuple[JudgeQuestion, Opinion]]
) -> dict[str, Any]:
    """Return the verdict row of one answer.

    It holds the `score` by rules and the judge's `opinions` by slot.
    """
    judged_slots = {
        name: asdict(SlotVerdict(**vars(opinion), rule_failed=question.rule_failed))
        for name, (question, opinion) in opinions.items()
    }
    slots = {
        name: _slot(slot, opinions[name][1] if name in opinions else None)
        for name, slot in score.slots.items()
    }
    passed = sum(slot["pass"] for slot in slots.values())
    states = [opinion.state for _, opinion in opinions.values()]
    open_slots = len(states) - states.count("judged")
    return {
        "id": score.id,
        "task": score.task,
        "status": _status(score, states),
        "overall": {
            "pass": bool(slots) and passed == len(slots),
            "score": round(passed / len(slots), 6) if slots else 0.0,
            "notes": f"{len(slots) - len(states)} slots by rule, {len(states) - open_slots} by "
            f"judge, {open_slots} without a decision",
        },
        "slots": slots,
        "judged": judged_slots,
    }


def _slot(slot: SlotScore, opinion: Opinion | None) -> dict[str, Any]:
    if opinion is None:
        return {"pass": bool(slot.passed), "score": slot.score or 0.0, "reason": "by rule"}
    reason = opinion.reason if opinion.state == "judged" else f"{opinion.state}: {opinion.reason}"
    return {"pass": bool(opinion.passed), "score": opinion.score or 0.0, "reason": reason}


def _status(score: Score, states: Sequence[str]) -> str:
    if score.finish == "missing":
        return MISSING
    if "unjudged" in states:
        return UNJUDGED
    return JUDGED if states else BY_RULE


def read_verdict_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows in `path` by example id, each checked by SCHEMA.

    Of two rows the later one counts.
    """
    rows = {}
    for number, line in enumerate(files.read_rows(path), 1):
        wrong = schema.schema_problems(line, SCHEMA, limit=1)
        if wrong:
            raise SemError(
                f"{path}:{number}: not a verdict row: {wrong[0]}",
                "judge again with `fab eval.judge`",
            )
        rows[line["id"]] = line
    return rows


def load_verdicts(path: Path) -> dict[tuple[str, str], SlotVerdict]:
    """Return every slot a judge was asked about, by (example id, slot).

    Empty where there is no file.
    """
    if not path.exists():
        return {}
    return {
        (name, slot): SlotVerdict(**opinion)
        for name, line in read_verdict_rows(path).items()
        for slot, opinion in line["judged"].items()
    }


def apply_verdicts(
    scores: Sequence[Score], verdicts: Mapping[tuple[str, str], SlotVerdict]
) -> list[Score]:
    """Return `scores` with the judge's verdict in the slots it was asked about.

    Where it did not decide, an arguable slot keeps the fail of its rule and a free text is
    unscored (None): counted apart by every total, and no pass.
    """
    return [
        replace(
            score,
            slots={
                name: _applied(slot, verdicts.get((score.id, name)))
                for name, slot in score.slots.items()
            },
        )
        for score in scores
    ]


def _applied(slot: SlotScore, verdict: SlotVerdict | None) -> SlotScore:
    if verdict is None or (verdict.rule_failed and verdict.state != "judged"):
        return slot
    return replace(slot, score=verdict.score, passed=verdict.passed)


def verdict_summary(rows_by_id: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Rates over every example in `rows_by_id`.

    A missing candidate and an open slot count as no pass.
    """
    lines = [rows_by_id[name] for name in sorted(rows_by_id)]
    states = [v["state"] for line in lines for v in line["judged"].values()]
    slots: dict[str, list[bool]] = {}
    for line in lines:
        for name, slot in line["slots"].items():
            slots.setdefault(f"{line['task']}.{name}", []).append(slot["pass"])
    count = len(lines)
    return {
        "total_examples": count,
        "judged_examples": sum(line["status"] == JUDGED for line in lines),
        "by_rule_examples": sum(line["status"] == BY_RULE for line in lines),
        "unjudged_examples": sum(line["status"] == UNJUDGED for line in lines),
        "missing_candidates": sum(line["status"] == MISSING for line in lines),
        "overall_pass_rate": _rate([line["overall"]["pass"] for line in lines]),
        "slot_pass_rates": {name: _rate(slots[name]) for name in sorted(slots)},
        **{f"{state}_slots": states.count(state) for state in STATES},
    }


def _rate(passes: Sequence[bool]) -> float | None:
    return round(sum(passes) / len(passes), 6) if passes else None
