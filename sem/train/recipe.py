"""train.yaml: one recipe for every engine. What each key moves is said beside it in the file."""

from dataclasses import dataclass, field
from typing import Literal

from sem.core.errors import SemError, suggest_nearest_name
from sem.core.project import Project


def _rate(value: float) -> None:
    if not 0 < value < 1:
        raise SemError(f"learning_rate {value}", "write a number above 0 and below 1")


def _positive(name: str, value: float, zero: bool = False) -> None:
    if not (value >= 0 if zero else value > 0) or value == float("inf"):
        raise SemError(f"{name} is {value}", f"write a {name} above 0")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapter (Hu et al. 2021): rank, alpha, dropout, which linear layers."""

    # +8.5 points over 16 on the demo: benchmarks/results/ablations.md.
    rank: int = 64
    alpha: int = 128
    dropout: float = 0.0
    targets: Literal["all-linear", "attention", "qv"] = "all-linear"
    # Counts alpha/sqrt(rank) times, not alpha/rank (Kalajdzievski 2023).
    rslora: bool = False
    # Also learns each output's magnitude (Liu et al. 2024); about 1.5x time.
    dora: bool = False


@dataclass(frozen=True)
class LossWeights:
    """What a token of the answer counts, by its place in the JSON; the end of turn counts 1."""

    value: float = 1.0
    key: float = 1.0
    punctuation: float = 1.0
    # Values of critical slots count that many times more.
    critical: float = 1.0

    def __post_init__(self) -> None:
        for name in ("value", "key", "punctuation", "critical"):
            _positive(name, getattr(self, name), zero=name != "critical")

    @property
    def is_flat(self) -> bool:
        """Return whether every token counts the same."""
        return {self.value, self.key, self.punctuation, self.critical} == {1.0}


@dataclass(frozen=True)
class Pretrain:
    """Continued pre-training on raw text, before the examples; `texts` none: no such stage."""

    # a pattern below data/SEM/, as raw/texts/**/*.md.
    texts: str | None = None
    epochs: float = 1.0
    learning_rate: float = 1e-4
    # Texts are joined and cut into sequences of that many.
    block_tokens: int = 1024
    # Share of the texts that perplexity is taken on.
    held_out: float = 0.05

    def __post_init__(self) -> None:
        _rate(self.learning_rate)
        _positive("pretrain.epochs", self.epochs)
        if self.block_tokens < 8:
            raise SemError(f"pretrain.block_tokens {self.block_tokens}", "use 8 or more")
        if not 0 <= self.held_out < 1:
            raise SemError(f"pretrain.held_out {self.held_out}", "write a share from 0 to below 1")


@dataclass(frozen=True)
class Preference:
    """Preference training on `preferences.vN.jsonl`, after the examples.

    dpo: Rafailov et al. 2023, against the model as it was before. orpo: Hong et al. 2024, the
    loss on the chosen answer plus `beta` times the log odds ratio.
    """

    method: Literal["none", "dpo", "orpo"] = "none"
    # dpo: higher stays nearer to the model before; orpo: weight of the ratio.
    beta: float = 0.1
    epochs: float = 1.0
    learning_rate: float = 2e-5
    # a seeded sample of the pairs.
    max_pairs: int | None = None

    def __post_init__(self) -> None:
        _rate(self.learning_rate)
        _positive("preference.beta", self.beta)
        _positive("preference.epochs", self.epochs)


@dataclass(frozen=True)
class Checks:
    """What `train.prepare` stops at."""

    # Peak forecast; none: 22 of a card of 24, else what is there.
    memory_gib: float | None = None
    # Share of rows whose answer is not in what is left of the page.
    lost_evidence: float = 0.05
    # Share of examples left out because they exceed max_tokens.
    too_long: float = 0.2


@dataclass(frozen=True)
class Recipe:
    """How a run is trained; defaults are the plan's."""

    engine: Literal["auto", "trl", "unsloth", "seq2seq"] = "auto"
    # full: every weight, about 8 times the memory.
    method: Literal["lora", "full"] = "lora"
    # Whose turns: see sem/lm/local/turns.py.
    renderer: Literal["template", "plan"] = "template"
    # QLoRA: a frozen 4-bit base (Dettmers et al. 2023); needs a GPU.
    load_in_4bit: bool = False
    lora: Lora = Lora()
    learning_rate: float = 2e-4
    epochs: float = 3.0
    # Stop earlier than the epochs say.
    max_steps: int | None = None
    # Examples per optimizer step.
    effective_batch: int = 16
    # Sets effective_batch from the mean length instead.
    tokens_per_step: int | None = None
    # Examples per forward pass: memory only, not the result's meaning.
    micro_batch: int = 4
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    # Prompt + answer; longer examples are left out and counted.
    max_tokens: int = 2048
    gradient_checkpointing: bool = False
    # On a CPU: blocked attention, joined low-rank products, compiled parts.
    fast: bool = True
    loss: LossWeights = LossWeights()
    # Of rows, by task; others 1.
    task_weights: dict[str, float] = field(default_factory=dict)
    pretrain: Pretrain = Pretrain()
    preference: Preference = Preference()
    checkpoint_steps: int = 50
    keep_checkpoints: int = 2
    log_steps: int = 5
    # Validation loss is taken on that many, at each checkpoint.
    val_examples: int = 32
    # Slot F1 is taken on that many generated answers; 0: it is not.
    val_answers: int = 16
    # Which checkpoint becomes the adapter.
    select: Literal["slot_f1", "loss", "last"] = "slot_f1"
    # Checkpoints without a better one after which training stops.
    patience: int | None = None
    # a seeded sample of the train part.
    max_train_examples: int | None = None
    # Also the checked variants that `fab dataset.augment` wrote.
    augmented: bool = False
    checks: Checks = Checks()
    # The adapter's start, dropout and the order of the rows.
    seed: int = 42
    # Which rows are sampled, and which texts are held out.
    data_seed: int = 42

    def __post_init__(self) -> None:
        if self.effective_batch % self.micro_batch:
            raise SemError(
                f"effective_batch {self.effective_batch} is not a multiple of "
                f"micro_batch {self.micro_batch}",
                "choose micro_batch so that it divides effective_batch",
            )
        for name in ("effective_batch", "micro_batch", "checkpoint_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise SemError(f"{name} is below 1", f"write a {name} of 1 or more")
        if self.keep_checkpoints < 2:
            raise SemError(
                f"keep_checkpoints {self.keep_checkpoints}",
                "keep 2 or more: the older one stays while the newer is written",
            )
        _rate(self.learning_rate)
        for name, weight in self.task_weights.items():
            _positive(f"task_weights.{name}", weight)
        if self.method == "full" and (self.load_in_4bit or self.lora != Lora()):
            what = "load_in_4bit" if self.load_in_4bit else "lora"
            raise SemError(f"method: full does not use {what}", f"leave {what} out")
        if self.patience is not None and (self.patience < 1 or self.select == "last"):
            raise SemError(
                f"patience {self.patience} with select: {self.select}",
                "patience is 1 or more, and needs select: slot_f1 or loss",
            )

    @property
    def selects(self) -> Literal["slot_f1", "loss", "last"]:
        """Return what decides which checkpoint is kept: loss where no answers are generated."""
        return "loss" if self.select == "slot_f1" and not self.val_answers else self.select


def load_recipe(project: Project) -> Recipe:
    """train.yaml of `project`; raise SemError when it weighs a task that is none of the sem's."""
    recipe = project.settings("train", Recipe)
    for name in recipe.task_weights:
        if name not in project.tasks:
            raise SemError(
                f"task_weights: no task {name!r}", suggest_nearest_name(name, project.tasks)
            )
    return recipe
