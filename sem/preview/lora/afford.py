"""What of two trainings of a model fits the time: steps, rows that are scored, rows looked at.

Scoring takes about a fifth of the time and the look at contributed rows a tenth. Where
a training ends sooner, because the recipe asks for no more steps, what is left goes to both.
"""

from dataclasses import dataclass, replace

from sem.preview.lora import bench as benches
from sem.preview.lora.bench import Bench, Encoded, Pace

# Of the time: what a forecast may take.
SPARE = 0.9
# Below them nothing is learnt that could be compared.
FEWEST_STEPS = 4
# Val rows below which an interval says little.
FEWEST_TESTED = 24
TESTED, LOOKED = 0.2, 0.1  # of the time


@dataclass(frozen=True)
class Budget:
    """What is done."""

    steps: int  # of each training
    # Val rows, drawn by lot.
    tested: int
    # Contributed rows, drawn by lot.
    looked: int
    # What the recipe asks for: one training of the full pipeline.
    of_steps: int
    seconds_a_step: float

    @property
    def is_whole(self) -> bool:
        """Return whether each training is as long as the recipe says."""
        return self.steps >= self.of_steps


def budget(bench: Bench, rows: Encoded, pace: Pace, seconds: float) -> Budget:
    """Return what fits `seconds` at `pace`; its steps may be too few."""
    available_s, of_steps = seconds * SPARE, recipe_steps(bench, rows)
    scorings = 3 if bench.package else 2
    step = benches.seconds_a_step(bench, rows, pace)
    both = 2 * step + benches.seconds_below(bench, rows, pace)
    a_test = benches.seconds_a_row(rows.tested, pace, scorings)
    a_look = benches.seconds_a_row(rows.given, pace)

    def spent(for_tests: float, for_looks: float) -> tuple[int, int]:
        tested = max(FEWEST_TESTED, int(for_tests / a_test))
        return min(tested, len(rows.tested.kept)), min(
            max(0, int(for_looks / a_look)), len(rows.given.kept)
        )

    tested, looks = spent(available_s * TESTED, available_s * LOOKED)
    steps = int((available_s - tested * a_test - looks * a_look) / both)
    if steps < FEWEST_STEPS:
        looks, steps = 0, int((available_s - tested * a_test) / both)
    if steps >= of_steps:
        rest = available_s - of_steps * both
        tested, _ = spent(rest * TESTED / (TESTED + LOOKED), 0.0)
        _, looks = spent(0.0, rest - tested * a_test)
        steps = of_steps
    return Budget(max(0, steps), tested, looks, of_steps, step)


def least(budget: Budget) -> Budget:
    """No more of `budget` than shows that the whole path works (`--test-mode`)."""
    return replace(
        budget,
        steps=min(budget.steps, FEWEST_STEPS),
        tested=min(budget.tested, FEWEST_TESTED),
        looked=min(budget.looked, FEWEST_TESTED),
    )


def recipe_steps(bench: Bench, rows: Encoded) -> int:
    """Optimizer steps that the recipe asks for with the contribution."""
    recipe = bench.job.recipe
    count = len(rows.base.kept) + len(rows.given.kept)
    count = min(count, recipe.max_train_examples or count)
    return max(1, round(-(-count // recipe.effective_batch) * recipe.epochs))
