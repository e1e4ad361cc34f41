"""Faults planted for every check of `train.prepare`, one at a time; masks.py counts the found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from sem.lm.local.chat import Chat
from sem.train.recipe import Checks
from sem.train.rows.data import TrainingRow, TrainingRows
from sem.train.run import preflight
from sem.train.run.preflight import PreflightCheck, PreflightInputs

# The row that is made faulty.
AT = 2


@dataclass(frozen=True)
class Planted:
    """A fault: what it is, which check looks for it, whether that check told it apart."""

    name: str
    check: str
    is_found: bool


def planted(subject: PreflightInputs) -> list[Planted]:
    """Return every fault that `subject`'s tokenizer can have, and whether it was found."""
    return [*_in_a_row(subject), *_of_the_template(subject), *_of_the_whole(subject)]


def _in_a_row(subject: PreflightInputs) -> Iterator[Planted]:
    first = subject.writer.chat.tokenizer.bos_token_id
    faults: list[tuple[Any, Callable[[TrainingRow], TrainingRow]]] = [
        (preflight.trained_tokens, _without_answer),
        (preflight.trained_tokens, _weightless),
        (preflight.check_end_of_turn, _without_end),
        (preflight.check_end_of_turn, _end_unlearnt),
        (preflight.check_end_of_turn, _end_twice),
        (preflight.prompt_unlearnt, _prompt_learnt),
        (preflight.prompt_unlearnt, _answer_half_learnt),
        (preflight.check_template, _other_prompt),
    ]
    if first is not None:
        faults.append((preflight.special_tokens, lambda row: _begun_twice(row, first)))
    for check, fault in faults:
        kept = list(subject.rows.kept)
        kept[AT] = fault(kept[AT])
        faulty = replace(subject, rows=TrainingRows(tuple(kept)))
        named = set(check(faulty).rows) - set(check(subject).rows)
        name = fault.__name__.strip("_<>").replace("_", " ")
        yield Planted(name, check.__name__, named == {kept[AT].id})


def _of_the_template(subject: PreflightInputs) -> Iterator[Planted]:
    """Answers rendered otherwise than generation expects them: a dash before each."""
    chat = subject.writer.chat
    if not chat.turns:
        return

    # Not a space: Gemma's template trims.
    class Dashed(Chat):
        def conversation_ids(self, system: str, user: str, answer: str) -> list[int]:
            return super().conversation_ids(system, user, "- " + answer)

    other = replace(subject, writer=replace(subject.writer, chat=Dashed(chat.tokenizer)))
    said = preflight.check_template(other)
    yield Planted("answer rendered otherwise", "template", len(said.rows) == len(_kept(subject)))


def _of_the_whole(subject: PreflightInputs) -> Iterator[Planted]:
    rows, half = _kept(subject), len(_kept(subject)) // 2
    long = replace(subject, rows=TrainingRows(rows[:half], tuple(row.id for row in rows[half:])))
    yield _told("too long", preflight.check_row_lengths, subject, long)
    cut = [replace(e, input_text="nothing left") for e in subject.examples]
    cut_away = replace(subject, examples=cut)
    yield _told("evidence cut away", preflight.lost_evidence, subject, cut_away)
    small = replace(subject.recipe, checks=Checks(memory_gib=0.5))
    tight = replace(subject, writer=replace(subject.writer, recipe=small))
    yield _told("too little memory", preflight.memory_fits, subject, tight)
    with mock.patch.object(preflight.shutil, "disk_usage", return_value=mock.Mock(free=10)):
        full = preflight.check_disk_space(subject)
    is_found = preflight.check_disk_space(subject).is_ok and not full.is_ok
    yield Planted("full disk", "disk", is_found)


def _told(
    name: str,
    check: Callable[[PreflightInputs], PreflightCheck],
    clean: PreflightInputs,
    faulty: PreflightInputs,
) -> Planted:
    return Planted(name, check.__name__, check(clean).is_ok and not check(faulty).is_ok)


def _kept(subject: PreflightInputs) -> tuple[TrainingRow, ...]:
    return subject.rows.kept


def _without_answer(row: TrainingRow) -> TrainingRow:
    return replace(row, ids=row.ids[: row.prompt])


def _weightless(row: TrainingRow) -> TrainingRow:
    return replace(row, weights=(0.0,) * row.trained)


def _without_end(row: TrainingRow) -> TrainingRow:
    return replace(row, ids=row.ids[:-1])


def _end_unlearnt(row: TrainingRow) -> TrainingRow:
    return replace(row, weights=(1.0,) * (row.trained - 1) + (0.0,))


def _end_twice(row: TrainingRow) -> TrainingRow:
    return replace(row, ids=(*row.ids, row.ids[-1]))


def _prompt_learnt(row: TrainingRow) -> TrainingRow:
    return replace(row, prompt=row.prompt - 3)


def _answer_half_learnt(row: TrainingRow) -> TrainingRow:
    return replace(row, prompt=row.prompt + 2)


def _other_prompt(row: TrainingRow) -> TrainingRow:
    return replace(row, ids=(row.ids[1], *row.ids[1:]))


def _begun_twice(row: TrainingRow, first: int) -> TrainingRow:
    return replace(row, ids=(first, first, *row.ids))
