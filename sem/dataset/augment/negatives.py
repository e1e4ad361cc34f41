"""Wrong answers for preference training: broken JSON, and right JSON with a wrong slot.

    {"price":12.5,"sku":"A1"}   ->   {"price":125.0,"sku":"A1"}   factor_ten, price

A row's own `negative_examples` are taken first. Each is checked to be wrong: it is no JSON, or its
value differs from the reference by more than a spelling, and no reference of the set has its text.
They are the *rejected* side of a pair and never a target: nothing reads them as examples.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import taught_text
from sem.dataset.augment import variant_files, wrong_answers
from sem.dataset.augment.augment import random_of
from sem.dataset.augment.wrong_answers import Case, Known, Slot
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot

COMMAND = "fab dataset.augment --negatives 2"
# Of one slot, from which another row's is taken.
MOST_VALUES = 256
NOT_APPLICABLE = "not_applicable"
# The kind of a wrong answer that came with its row.
GIVEN = "given"
TARGET = "is_a_reference"
WORDS = ("system_prompt", "slot_specs", "source_id")


@dataclass(frozen=True)
class Negative:
    """A wrong answer: its kind, the slot it is wrong in ('' for the whole), its text."""

    kind: str
    slot: str
    text: str


@dataclass(frozen=True)
class Preferences:
    """A written set of pairs and its facts."""

    facts: dict[str, Any]
    path: Path


def write_negative_pairs(
    project: Project,
    version: int | str | None,
    limit: int,
    seed: int,
    progress: Callable[[Any, int], Any] | None = None,
) -> Preferences:
    """Write at most `limit` pairs for every train row of snapshot `version`, read-only, facts
    last.
    """
    if limit < 1:
        raise SemError(f"{limit} wrong answers of each row", "ask for 1 or more")
    frozen = snapshot.load_snapshot(project, version)
    path, refused, kinds = (
        project.processed / negative_pairs_path(frozen),
        Counter[str](),
        Counter[str](),
    )
    with files.lock(project.processed / ".augment.lock", str(path)):
        corpus = collected(frozen.examples("train"))
        rows = frozen.examples("train")
        rows = progress(rows, frozen.counts["train"]) if progress else rows
        pairs = (
            negative_pair_row(example, negative, kinds)
            for example in rows
            for negative in wrong_answers_of(Case(example, corpus), limit, seed, refused)
        )
        count = files.write_rows(path, pairs, 0o444)
        facts = {
            "snapshot": frozen.name,
            "snapshot_sha256": frozen.sha256,
            "seed": seed,
            "each": limit,
            "rows": count,
            "by_kind": dict(sorted(kinds.items())),
            "refused": dict(sorted(refused.items())),
            "sha256": files.sha256_file(path),
        }
        variant_files.write_facts(project, frozen, path, facts)
    return Preferences(facts, path)


def negative_pairs_path(frozen: Snapshot) -> str:
    """Return the file of the pairs of snapshot `frozen`."""
    return f"preferences.{frozen.name}.jsonl"


def negative_pairs_facts(project: Project, frozen: Snapshot) -> dict[str, Any]:
    """Return what the pairs of snapshot `frozen` are.

    Raise SemError when there are none or they changed.
    """
    return variant_files.read_variant_facts(
        project.processed / negative_pairs_path(frozen), frozen, "pairs", COMMAND
    )


def read_negative_pairs(project: Project, frozen: Snapshot) -> Iterator[dict[str, Any]]:
    """Yield the pairs of snapshot `frozen`, verified before the first one."""
    negative_pairs_facts(project, frozen)
    yield from files.read_rows(project.processed / negative_pairs_path(frozen))


def negative_pair_row(example: Example, negative: Negative, kinds: Counter[str]) -> dict[str, Any]:
    """Return one pair as it is written; `kinds` counts it."""
    kinds[negative.kind] += 1
    words = {name: getattr(example, name) for name in WORDS}
    return {
        "id": example.id,
        "task": example.task,
        "input_text": example.input_text,
        **{name: value for name, value in words.items() if value is not None},
        "chosen": taught_text(example.output_json),
        "rejected": negative.text,
        "kind": negative.kind,
        "slot": negative.slot,
    }


def collected(examples: Iterator[Example]) -> Known:
    """Return every reference's text, and the first values of every slot in order of id."""
    corpus = Known()
    for example in examples:
        corpus.targets.add(files.sha256_text(taught_text(example.output_json)))
        for slot, value in wrong_answers.answer_slots(example.output_json):
            held = corpus.values.setdefault((example.task, slot), [])
            if value not in (None, "", []) and len(held) < MOST_VALUES and value not in held:
                held.append(value)
    return corpus


def wrong_answers_of(
    case: Case, limit: int, seed: int, refused: Counter[str]
) -> Iterator[Negative]:
    """Yield at most `limit` wrong answers of `case`; those that cannot be used are counted.

    The row's own `negative_examples` come first: somebody saw a model give them. The others are
    made, each of another kind.
    """
    for text in _own(case.example):
        reason = _fault(case, text) if limit else "beyond_each"
        if reason:
            refused[f"{GIVEN}:{reason}"] += 1
            continue
        limit -= 1
        yield Negative(GIVEN, "", text)
    rng = random_of(seed, case.example.id, "negative")
    for kind in rng.sample(sorted(wrong_answers.KINDS), len(wrong_answers.KINDS)):
        if not limit:
            return
        wrong_answer = wrong_answers.KINDS[kind](case, rng)
        reason = (
            NOT_APPLICABLE
            if wrong_answer is None
            else _fault(case, wrong_answer[1], wrong_answer[0])
        )
        if wrong_answer is None or reason:
            refused[f"{kind}:{reason}"] += 1
            continue
        limit -= 1
        yield Negative(kind, ".".join(wrong_answer[0]), wrong_answer[1])


def _own(example: Example) -> list[str]:
    """Return the texts of the row's own wrong answers; a text is taken as it was given."""
    answers = example.negative_examples or []
    texts = [answer if isinstance(answer, str) else taught_text(answer) for answer in answers]
    return list(dict.fromkeys(texts))


def _fault(case: Case, text: str, slot: Slot | None = None) -> str | None:
    """Return why `text` must not be a rejected side: it may be right after all.

    `slot` is where it was made wrong, () for the whole; None where it came with its row.
    """
    if not text.strip():
        return "is_empty"
    if files.sha256_text(text) in case.others.targets:
        return TARGET
    try:
        value = jsonio.parse_json(text)
    except ValueError:
        return None
    if slot == ():
        return "is_valid"
    if slot is not None:
        return "is_equal" if _is_right(case, slot, wrong_answers.slot_value(value, slot)) else None
    slots, right_slots = (
        dict(wrong_answers.answer_slots(answer)) for answer in (value, case.answer)
    )
    is_equal = slots.keys() == right_slots.keys() and type(value) is type(case.answer)
    is_equal = is_equal and all(_is_right(case, name, slots[name]) for name in slots)
    return "is_equal" if is_equal else None


def _is_right(case: Case, slot: Slot, value: Any) -> bool:
    """Return True if `value` in `slot` says what the reference does, or a further right answer."""
    # An alternative may be of a slot around this one: {"seller": [{"name": "ACME GmbH"}]}.
    right = [wrong_answers.slot_value(case.answer, slot)]
    for depth in range(1, len(slot) + 1):
        others = case.example.alternatives.get(".".join(slot[:depth]), [])
        right += [wrong_answers.slot_value(other, slot[depth:]) for other in others]
    return any(wrong_answers.is_same_answer(value, answer) for answer in right)
