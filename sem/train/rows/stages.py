"""A run's stages, in order: raw text, the examples, preferences. Each has rows and a loss."""

from dataclasses import dataclass, field
from pathlib import Path

from sem.core import manifest
from sem.core.example import Example
from sem.core.run import Run
from sem.core.slotspec import SlotFile
from sem.core.taskspec import TaskSpec
from sem.eval.config import EvalSettings
from sem.lm.local.chat import Chat
from sem.train.recipe import Recipe
from sem.train.rows.data import TrainingRows
from sem.train.rows.pairs import PreferencePairs
from sem.train.tracking.tracker import Tracking

PRETRAIN, EXAMPLES, PREFERENCE = "pretrain", "examples", "preference"


@dataclass(frozen=True)
class Stage:
    """One pass of the trainer: what it sees, what it minimises, how far it goes."""

    name: str
    # a name in `loss.LOSSES`.
    loss: str
    rows: TrainingRows | PreferencePairs
    val: TrainingRows
    learning_rate: float
    epochs: float
    max_steps: int | None = None
    beta: float = 0.0
    # Slot F1 is taken, and may decide.
    answers: bool = False

    def steps(self, recipe: Recipe) -> int:
        """Optimizer steps of the whole stage."""
        per_epoch = -(-len(self.rows.kept) // recipe.effective_batch)
        planned = max(1, round(per_epoch * self.epochs))
        return min(planned, self.max_steps) if self.max_steps else planned

    def tokens(self) -> int:
        """Tokens that all its epochs read, at most."""
        return round(sum(row.length for row in self.rows.kept) * self.epochs)

    def folder(self, run: Run) -> Path:
        """Return where its checkpoints lie: the run's own folder for the examples."""
        if run.folder is None:
            raise ValueError("the run 'base' has no stages")
        return run.folder if self.name == EXAMPLES else run.folder / self.name

    def result(self, run: Run) -> Path:
        """Return where its weights lie once it is over."""
        return (run.folder or Path()) / "stages" / self.name

    def is_over(self, run: Run) -> bool:
        """Return whether it was finished, by its manifest."""
        return (self.result(run) / manifest.NAME).exists()


@dataclass(frozen=True)
class TrainingJob:
    """All that an engine needs, resolved."""

    run: Run
    recipe: Recipe
    base: Path
    dtype: str
    device: str
    chat: Chat
    stages: tuple[Stage, ...]
    tasks: dict[str, TaskSpec]
    slots: SlotFile
    # How the examples below are answered.
    answering: EvalSettings
    # That slot F1 is taken on.
    val_examples: tuple[Example, ...] = ()
    # Besides metrics.jsonl.
    tracking: Tracking = field(default_factory=Tracking)

    @property
    def folder(self) -> Path:
        """Return the run's folder."""
        if self.run.folder is None:
            raise ValueError("the run 'base' is not trained")
        return self.run.folder


def stages_of_recipe(
    recipe: Recipe,
    texts: tuple[TrainingRows, TrainingRows] | None,
    rows: TrainingRows,
    val: TrainingRows,
    pairs: PreferencePairs | None,
) -> tuple[Stage, ...]:
    """Return the stages that `recipe` asks for, over rows already encoded."""
    stages = []
    if texts is not None:
        first = recipe.pretrain
        stages.append(Stage(PRETRAIN, "answer", *texts, first.learning_rate, first.epochs))
    goal = (recipe.learning_rate, recipe.epochs, recipe.max_steps)
    stages.append(Stage(EXAMPLES, "answer", rows, val, *goal, answers=True))
    if pairs is not None:
        last = recipe.preference
        rate, epochs = last.learning_rate, last.epochs
        stage = Stage(PREFERENCE, last.method, pairs, val, rate, epochs, None, last.beta, True)
        stages.append(stage)
    return tuple(stages)
