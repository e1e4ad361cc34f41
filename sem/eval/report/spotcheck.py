"""Slots a person should look at, and what becomes of the person's opinion.

A sheet (CSV) lists one slot a line. Half of them are drawn at random from what the judge decided:
only those measure its errors, for a choice by disagreement would make it look worse than it is.
The others are spread over strata, first where judge and rule disagree or nobody decided, critical
slots before others. A `correction` replaces the reference in the store, says where it came from,
and keeps the row out of train for good.
"""

import csv
import io
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, schema
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.dataset.store import store
from sem.eval.answers.subject import EvalSubject
from sem.eval.judge import calibration, judge_questions
from sem.eval.judge.verdicts import SlotVerdict
from sem.eval.scoring.scoring import WHOLE, Score

COLUMNS = (
    "id",
    "slot",
    "task",
    "stratum",
    "critical",
    "why",
    "rule",
    "judge",
    "reference",
    "candidate",
    "input",
    "drawn",
    "human_pass",
    "correction",
    "note",
)
EXCERPT = 2_000
WORDS = {
    "yes": True,
    "true": True,
    "1": True,
    "pass": True,
    "no": False,
    "false": False,
    "0": False,
    "fail": False,
}
# a spreadsheet would run it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
RANDOM, RANKED = "at random", "ranked"
DECIDED = {True: "pass", False: "fail", None: "open"}
# How much a look is worth; a critical slot counts twice.
WORTH = {"judge and rule disagree": 4.0, "nobody decided": 3.0, "wrong": 1.0, "right": 0.5}


@dataclass(frozen=True)
class SpotcheckLine:
    """One slot on the sheet."""

    score: Score
    slot: str
    why: str
    worth: float
    judge: str
    drawn: str = RANKED


@dataclass(frozen=True)
class FilledSheet:
    """What a filled-in sheet says."""

    # Passed, how the slot was drawn.
    labels: dict[tuple[str, str], tuple[bool, str]]
    corrections: dict[tuple[str, str], Any]
    blank: int


def choose_slots(
    scores: Sequence[Score], verdicts: Mapping[tuple[str, str], SlotVerdict], count: int, seed: int
) -> list[SpotcheckLine]:
    """Return `count` slots: half of them random judged ones.

    The others are the most worthwhile ones.

    These go round robin over strata, ties by `seed`.
    """
    if count < 1:
        raise SemError(f"a sheet of {count} slots", "ask for 1 or more")
    dice = random.Random(seed)
    lines = sorted(_lines(scores, verdicts), key=lambda line: (line.score.id, line.slot))
    judged_lines = [line for line in lines if line.judge in ("pass", "fail")]
    random_lines = dice.sample(judged_lines, min(len(judged_lines), (count + 1) // 2))
    random_places = {(line.score.id, line.slot) for line in random_lines}
    other_lines = [line for line in lines if (line.score.id, line.slot) not in random_places]
    ranked = _ranked(other_lines, count - len(random_lines), dice)
    return [*(replace(line, drawn=RANDOM) for line in random_lines), *ranked]


def _ranked(
    lines: Sequence[SpotcheckLine], count: int, dice: random.Random
) -> list[SpotcheckLine]:
    queues: dict[str, list[SpotcheckLine]] = defaultdict(list)
    for line in lines:
        queues[line.score.stratum].append(line)
    for name in sorted(queues):
        dice.shuffle(queues[name])
        queues[name].sort(key=lambda line: line.worth)
    picks: list[SpotcheckLine] = []
    while len(picks) < count and any(queues.values()):
        picks += [queues[name].pop() for name in sorted(queues) if queues[name]]
    return picks[:count]


def _lines(
    scores: Sequence[Score], verdicts: Mapping[tuple[str, str], SlotVerdict]
) -> Iterator[SpotcheckLine]:
    for score in scores:
        for name, slot in score.slots.items():
            verdict = verdicts.get((score.id, name))
            why = _why(slot.passed, verdict)
            worth = WORTH[why] * (2 if name in score.critical else 1)
            judgement = DECIDED[verdict.passed] if verdict else "-"
            yield SpotcheckLine(score, name, why, worth, judgement)


def _why(passed: bool | None, verdict: SlotVerdict | None) -> str:
    if verdict and verdict.passed is not None and passed not in (None, verdict.passed):
        return "judge and rule disagree"
    if passed is None and (verdict is None or verdict.passed is None):
        return "nobody decided"
    is_right = verdict.passed if verdict and verdict.passed is not None else passed
    return "right" if is_right else "wrong"


def format_spotcheck_csv(lines: Sequence[SpotcheckLine], subject: EvalSubject) -> str:
    """Return `lines` as CSV for a person; no cell can start a formula."""
    answers_by_id, by_id = (
        judge_questions.read_subject_answers(subject),
        {example.id: example for example in subject.examples},
    )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        example, name = by_id[line.score.id], line.score.id
        answer = (
            judge_questions.value_of(answers_by_id[name].text) if name in answers_by_id else None
        )
        cells = (
            name,
            line.slot,
            line.score.task,
            line.score.stratum,
            "yes" if line.slot in line.score.critical else "no",
            line.why,
            DECIDED[line.score.slots[line.slot].passed],
            line.judge,
            jsonio.canonical_json(judge_questions.value_at_path(example.output_json, line.slot)),
            jsonio.canonical_json(judge_questions.value_at_path(answer, line.slot)),
            example.input_text[:EXCERPT],
            line.drawn,
            "",
            "",
            "",
        )
        writer.writerow([_guarded(cell) for cell in cells])
    return text.getvalue()


def take_sheet(
    path: Path, tasks: Mapping[str, Any], examples_by_id: Mapping[str, Example]
) -> FilledSheet:
    """Return the labels and corrections in the sheet `path`.

    The SemError names a line that cannot be used.
    """
    labels: dict[tuple[str, str], tuple[bool, str]] = {}
    corrections: dict[tuple[str, str], Any] = {}
    blank = 0
    for number, row in enumerate(_rows(path), 2):
        where, name = f"{path}:{number}", _bare(row["id"])
        place = (name, _bare(row["slot"]))
        if name not in examples_by_id:
            raise SemError(f"{where}: no example {name!r} in this split", "keep the id as it was")
        word = row["human_pass"].strip().casefold()
        if word and word not in WORDS:
            raise SemError(f"{where}: human_pass {word!r}", f"write {', '.join(WORDS)} or nothing")
        if word:
            sampling = RANDOM if row.get("drawn") == RANDOM else RANKED
            labels[place] = WORDS[word], sampling
        if row["correction"].strip():
            corrections[place] = _value(row["correction"], where)
        blank += not (word or row["correction"].strip())
    _check(corrections, examples_by_id, tasks, path)
    return FilledSheet(labels, corrections, blank)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise SemError(f"{path}: no such sheet", "make one with `fab eval.sample`")
    with path.open("r", encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"id", "slot", "human_pass", "correction"} - set(reader.fieldnames or ())
        if missing:
            raise SemError(f"{path}: no column {min(missing)!r}", "keep the header of the sheet")
        yield from ({key: value or "" for key, value in row.items() if key} for row in reader)


def _value(text: str, where: str) -> Any:
    try:
        return jsonio.parse_json(_bare(text))
    except ValueError as error:
        raise SemError(
            f"{where}: correction {text[:60]!r} is not JSON", 'write a text as "text", or null'
        ) from error


def _check(
    corrections: Mapping[tuple[str, str], Any],
    examples_by_id: Mapping[str, Example],
    tasks: Mapping[str, Any],
    path: Path,
) -> None:
    for name, slot in corrections:
        reference = examples_by_id[name].output_json
        # Put in as it stands, `seller.name` would become a key of its own.
        is_field = not isinstance(reference, dict) or slot == WHOLE or slot in reference
        if not is_field and ("." in slot or "[]" in slot):
            raise SemError(
                f"{path}: correction of {name}: {slot!r} lies inside another field",
                f"correct the whole of {slot.partition('.')[0].removesuffix('[]')!r} instead",
            )
    for name in sorted({name for name, _ in corrections}):
        task = tasks[examples_by_id[name].task]
        wrong = schema.schema_problems(
            corrected_reference(examples_by_id[name], corrections), task.io_schema, limit=1
        )
        if wrong:
            raise SemError(f"{path}: correction of {name}: {wrong[0]}", "write what io_schema has")


def corrected_reference(example: Example, corrections: Mapping[tuple[str, str], Any]) -> Any:
    """`example`'s reference with its `corrections` put in."""
    reference = example.output_json
    for (name, slot), value in corrections.items():
        if name == example.id:
            is_field = isinstance(reference, dict) and slot != WHOLE
            reference = {**reference, slot: value} if is_field else value
    return reference


def keep_labels(project: Project, subject: EvalSubject, entries: FilledSheet, at: str) -> int:
    """Write the labels of `entries` beside the verdicts and its corrections into the store.

    Return the number of rows that changed.

    Rows are held out before they are changed: a kill in between loses nothing.
    """
    folder = project.reports / subject.run.id
    with files.open_for_append(calibration.labels_path(folder)) as file:
        for (name, slot), (passed, sampling) in sorted(entries.labels.items()):
            label = {"id": name, "slot": slot, "human_pass": passed}
            files.append_row(file, {**label, "drawn": sampling, "at": at})
    names = {name for name, _ in entries.corrections}
    if not names:
        return 0
    snapshot.hold_out_examples(
        project, sorted(names), f"corrected in a spot-check of {subject.run.id}"
    )
    examples_by_id = {example.id: example for example in subject.examples}
    with store.open_store(project.store) as opened:
        rows = [row for row in opened.rows() if row.id in names]
    changed = [_row(row, examples_by_id[str(row.id)], entries, subject.run.id, at) for row in rows]
    store.append_store_rows(project.store, changed, "replace")
    return len(changed)


def _row(row: Any, example: Example, entries: FilledSheet, run: str, at: str) -> Any:
    meta = jsonio.parse_json(row.metadata) if row.metadata else {}
    slots = sorted(slot for name, slot in entries.corrections if name == example.id)
    note = {"run": run, "slots": slots, "at": at, "before": example.output_json}
    meta |= {"reference_source": "human", "corrections": [*meta.get("corrections", []), note]}
    reference = jsonio.canonical_json(corrected_reference(example, entries.corrections))
    return replace(row, reference=reference, metadata=jsonio.canonical_json(meta))


def _guarded(cell: str) -> str:
    return "'" + cell if cell.startswith((*FORMULA, "'")) else cell


def _bare(cell: str) -> str:
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" else cell
