"""What fits the time: steps, rows scored, rows looked at."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sem.preview.lora import lora
from sem.preview.lora.bench import EncodedSplit, TokenPace
from sem.train.recipe import Recipe
from sem.train.rows.data import TrainingRow, TrainingRows

RECIPE = Recipe(effective_batch=8, epochs=1.0, max_train_examples=240)
# 100 tokens a row: 8 s a step, 0.5 s a row.
PACE = TokenPace(trained=0.01, scored=0.005)


def rows(base: int = 800, given: int = 200, tested: int = 116) -> EncodedSplit:
    def part(count: int) -> TrainingRows:
        return TrainingRows(tuple(TrainingRow(str(n), (0,) * 100, 50) for n in range(count)))

    return EncodedSplit(part(base), part(given), part(tested))


def bench(package: object = None, recipe: Recipe = RECIPE) -> SimpleNamespace:
    return SimpleNamespace(job=SimpleNamespace(recipe=recipe), package=package)


def cost(found: lora.LoraBudget, scorings: int = 2) -> float:
    return found.steps * 16 + found.tested * scorings * 0.5 + found.looked * 0.5


@pytest.mark.parametrize("seconds", [150, 240, 290, 600, 5000])
@pytest.mark.parametrize("package", [None, "one"])
def test_it_fits_the_time_and_no_step_is_left_over(seconds: int, package: str | None) -> None:
    found = lora.affordable_budget(bench(package), rows(), PACE, seconds)
    left = seconds * lora.SPARE
    assert found.steps >= lora.FEWEST_STEPS
    assert cost(found, 3 if package else 2) <= left
    if not found.is_whole:
        assert found.steps < found.of_steps
        assert cost(found, 3 if package else 2) > left - 16 - 1.5
    # max_train_examples, not all rows.
    assert found.of_steps == 30


def test_four_minutes_on_two_cores() -> None:
    found = lora.affordable_budget(bench(), rows(), PACE, 240)
    assert (found.steps, found.tested, found.looked) == (9, 43, 43)
    assert found.seconds_a_step == pytest.approx(8)


def test_what_the_recipe_does_not_need_goes_to_rows() -> None:
    found = lora.affordable_budget(bench(), rows(), PACE, 5000)
    assert (found.steps, found.tested, found.looked) == (30, 116, 200)
    assert found.is_whole


def test_a_look_is_given_up_before_a_step() -> None:
    found = lora.affordable_budget(bench(), rows(), PACE, 100)
    assert (found.steps, found.tested, found.looked) == (4, 24, 0)


def test_too_little_time_leaves_too_few_steps() -> None:
    assert lora.affordable_budget(bench(), rows(), PACE, 60).steps < lora.FEWEST_STEPS
    assert lora.affordable_budget(bench(), rows(), PACE, -5).steps == 0


def test_few_val_rows_are_all_scored() -> None:
    assert lora.affordable_budget(bench(), rows(tested=9), PACE, 240).tested == 9


def test_what_stands_below_the_trained_layers_is_paid_once_a_row() -> None:
    pace = TokenPace(trained=0.002, scored=0.001, below=0.003)
    found = lora.affordable_budget(bench(), rows(), pace, 240)
    # A fifth of the candidate's rows are new, 0.3 s below each; 8 rows a step.
    below = (found.steps * 8 * 1.2 + found.tested + found.looked) * 0.3
    above = found.steps * 2 * 8 * 0.2 + (found.tested * 2 + found.looked) * 0.1
    assert 240 * lora.SPARE - 7 < below + above <= 240 * lora.SPARE
    assert found.seconds_a_step == pytest.approx(1.6)


def test_epochs_of_all_rows_where_the_recipe_takes_no_sample() -> None:
    recipe = Recipe(effective_batch=8, epochs=2.0)
    assert lora.recipe_steps(bench(recipe=recipe), rows()) == 250


def test_test_mode_takes_the_least() -> None:
    found = lora.minimal_budget(lora.affordable_budget(bench(), rows(), PACE, 5000))
    assert (found.steps, found.tested, found.looked, found.is_whole) == (4, 24, 24, False)


def test_a_recipe_of_few_steps_is_enough_when_all_of_them_fit() -> None:
    # A recipe of 3 steps was refused: "4 steps of two trainings do not fit 270 s".
    budget = lora.LoraBudget(steps=3, tested=24, looked=0, of_steps=3, seconds_a_step=0.1)

    assert budget.is_enough
    assert not replace(budget, of_steps=30).is_enough
