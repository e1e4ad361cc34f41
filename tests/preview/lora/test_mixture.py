"""Baseline and candidate see the same rows, but for the contribution's share."""

import pytest

from sem.preview.lora.lora import mix_training_rows
from sem.train.rows.data import TrainingRow


def rows(name: str, count: int) -> list[TrainingRow]:
    return [TrainingRow(f"{name}{number:03}", (1, 2), 1) for number in range(count)]


BASE, GIVEN = rows("base", 80), rows("given", 20)


def test_a_part_holds_the_contributions_share_and_else_the_baselines_rows() -> None:
    made = mix_training_rows(BASE, GIVEN, 40, 1)
    assert (len(made.base), len(made.mixed), made.given) == (40, 40, 8)
    assert made.mixed[:32] == made.base[:32]
    assert all(row in GIVEN for row in made.mixed[32:])
    assert len({row.id for row in made.mixed}) == 40
    assert mix_training_rows(BASE[::-1], GIVEN[::-1], 40, 1) == made
    assert mix_training_rows(BASE, GIVEN, 40, 2) != made


@pytest.mark.parametrize("count", [100, 1000])
def test_what_holds_all_takes_all(count: int) -> None:
    made = mix_training_rows(BASE, GIVEN, count, 1)
    assert made.base == tuple(BASE)
    assert made.mixed == (*BASE, *GIVEN)
    assert made.given == 20


def test_more_steps_than_base_rows_repeat_them() -> None:
    made = mix_training_rows(BASE, GIVEN, 90, 1)
    assert sorted(made.base, key=lambda row: row.id) == BASE
    assert (len(made.mixed), made.given) == (90, 18)


def test_a_contribution_of_few_rows_is_never_left_out() -> None:
    assert mix_training_rows(BASE, GIVEN[:1], 16, 1).given == 1
    assert mix_training_rows(BASE[:2], GIVEN, 4, 1).given == 4
