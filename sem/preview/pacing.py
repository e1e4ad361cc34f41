"""What of a pipeline fits the minutes one has: how much is answered, how much is trained on.

    pace = pacing.measure(project)
    answers = pacing.answers_that_fit(pace, project, seconds=480)
    examples = pacing.examples_that_fit(pace, project, seconds=300)

The machine is measured by a few micro-batches of the project's own trainer on rows of the
snapshot; nothing is assumed of it. What the recipe asks for is never exceeded.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.eval.config import EvalSettings
from sem.preview.lora import bench as benches
from sem.preview.lora.bench import ExampleSplit
from sem.train import recipe as recipes

# Answering takes as long as scoring that many times its prompt: reading it, then a token at a
# time. 2 to 3 were measured, with and without bf16, in batches of 16.
ANSWER_SCORINGS = 3.0
# Of the time, for both runs together.
ANSWERS_SHARE = 0.4
# Below them an interval says little: two of each of 14 shops.
MIN_ANSWERS = 28
# Below them not even the form is learnt.
MIN_STEPS = 8
MEASURED_ROWS = 8  # of each part


@dataclass(frozen=True)
class MachinePace:
    """Seconds of one row on this machine, and how much the recipe asks for."""

    train_example_s: float
    answer_s: float
    val_score_s: float
    # Of the train part, as the recipe samples them.
    examples: int
    # Of the test part, as eval.yaml samples them.
    rows: int


def measure_machine_pace(project: Project) -> MachinePace:
    """Return the pace of `project`'s base model and recipe here; takes half a minute or less."""
    frozen, recipe = snapshot.load_snapshot(project), recipes.load_recipe(project)
    settings = project.settings("eval", EvalSettings)
    train, val = (list(frozen.examples(part)) for part in ("train", "val"))
    test = sum(1 for _ in frozen.examples("test"))
    size = min(MEASURED_ROWS, len(train) // 2)
    split = ExampleSplit(tuple(train[:size]), tuple(train[size : 2 * size]), tuple(val[:size]))
    with tempfile.TemporaryDirectory() as folder:
        bench = benches.prepare_bench(project, project.base_model_id, Path(folder))
        rows = benches.encode_split(bench, split)
        pace = benches.measure_token_pace(bench, rows, lambda _: True)
    length = sum(row.length for row in (*rows.base.kept, *rows.given.kept)) / (
        len(rows.base.kept) + len(rows.given.kept)
    )
    return MachinePace(
        train_example_s=pace.trained * length,
        answer_s=pace.scored * length * ANSWER_SCORINGS,
        val_score_s=pace.scored * length,
        examples=min(recipe.max_train_examples or len(train), len(train)),
        rows=min(settings.max_examples or test, test),
    )


def answers_that_fit(pace: MachinePace, seconds: float) -> int:
    """Return how many rows both runs can answer in their share of `seconds`."""
    fitting = int(seconds * ANSWERS_SHARE / (2 * pace.answer_s))
    return min(pace.rows, max(MIN_ANSWERS, fitting))


def examples_that_fit(pace: MachinePace, project: Project, seconds: float) -> int:
    """Return how many examples can be learnt in `seconds`, whole optimizer steps of them.

    What each checkpoint costs is counted: the validation loss, and, where all examples fit, the
    answers to validation prompts.
    """
    recipe = recipes.load_recipe(project)
    most = recipe.epochs * pace.examples
    steps = most / recipe.effective_batch
    checkpoints = max(1.0, steps / recipe.checkpoint_steps)
    a_loss, answers = recipe.val_examples * pace.val_score_s, recipe.val_answers * pace.answer_s
    whole = most * pace.train_example_s + checkpoints * (a_loss + answers)
    if whole <= seconds:
        return pace.examples
    seconds_left = seconds - a_loss
    fitting = int(seconds_left / (pace.train_example_s * recipe.effective_batch * recipe.epochs))
    return min(pace.examples, max(MIN_STEPS, fitting) * recipe.effective_batch)
