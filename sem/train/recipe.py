"""train.yaml: one recipe for every engine. What each key moves is said beside it in the file."""

from dataclasses import dataclass, field
from typing import Literal

from sem.core.errors import SemError, nearest
from sem.core.project import Project


def _rate(value: float) -> None:
    if not 0 < value < 1:
        raise SemError(f"learning_rate {value}", "0 < rate < 1")


def _positive(name: str, value: float, zero: bool = False) -> None:
    if not (value >= 0 if zero else value > 0) or value == float("inf"):
        raise SemError(f"{name} is {value}", f"write a {name} above 0")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapter (Hu et al. 2021): rank, alpha, dropout, which linear layers."""

    rank: int = 64  # +8.5 points over 16 on the demo: benchmarks/results/ablations.md
    alpha: int = 128
    dropout: float = 0.0
    targets: Literal["all-linear", "attention", "qv"] = "all-linear"
    rslora: bool = False  # counts alpha/sqrt(rank) times, not alpha/rank (Kalajdzievski 2023)
    dora: bool = False  # also learns each output's magnitude (Liu et al. 2024); about 1.5x time


@dataclass(frozen=True)
class LossWeights:
    """What a token of the answer counts, by its place in the JSON; the end of turn counts 1."""

    value: float = 1.0
    key: float = 1.0
    punctuation: float = 1.0
    critical: float = 1.0  # values of critical slots count that many times more

    def __post_init__(self) -> None:
        for name in ("value", "key", "punctuation", "critical"):
            _positive(name, getattr(self, name), zero=name != "critical")

    @property
    def is_flat(self) -> bool:
        """Whether every token counts the same."""
        return {self.value, self.key, self.punctuation, self.critical} == {1.0}


@dataclass(frozen=True)
class Pretrain:
    """Continued pre-training on raw text, before the examples; TEXTS none: no such stage."""

    texts: str | None = None  # a pattern below data/SEM/, as raw/texts/**/*.md
    epochs: float = 1.0
    learning_rate: float = 1e-4
    block_tokens: int = 1024  # texts are joined and cut into sequences of that many
    held_out: float = 0.05  # share of the texts that perplexity is taken on

    def __post_init__(self) -> None:
        _rate(self.learning_rate)
        _positive("pretrain.epochs", self.epochs)
        if self.block_tokens < 8:
            raise SemError(f"pretrain.block_tokens {self.block_tokens}", "use 8 or more")
        if not 0 <= self.held_out < 1:
            raise SemError(f"pretrain.held_out {self.held_out}", "a share, 0 <= x < 1")


@dataclass(frozen=True)
class Preference:
    """Preference training on `preferences.vN.jsonl`, after the examples.

    dpo: Rafailov et al. 2023, against the model as it was before. orpo: Hong et al. 2024, the
    loss on the chosen answer plus BETA times the log odds ratio.
    """

    method: Literal["none", "dpo", "orpo"] = "none"
    beta: float = 0.1  # dpo: higher stays nearer to the model before; orpo: weight of the ratio
    epochs: float = 1.0
    learning_rate: float = 2e-5
    max_pairs: int | None = None  # a seeded sample of the pairs

    def __post_init__(self) -> None:
        _rate(self.learning_rate)
        _positive("preference.beta", self.beta)
        _positive("preference.epochs", self.epochs)


@dataclass(frozen=True)
class Checks:
    """What `train.prepare` stops at."""

    memory_gib: float | None = None  # peak forecast; none: 22 of a card of 24, else what is there
    lost_evidence: float = 0.05  # share of rows whose answer is not in what is left of the page
    too_long: float = 0.2  # share of examples left out because they exceed max_tokens


@dataclass(frozen=True)
class Recipe:
    """How a run is trained; defaults are the plan's."""

    engine: Literal["auto", "trl", "unsloth", "seq2seq"] = "auto"
    method: Literal["lora", "full"] = "lora"  # full: every weight, about 8 times the memory
    renderer: Literal["template", "plan"] = "template"  # whose turns: see sem/lm/local/turns.py
    load_in_4bit: bool = False  # QLoRA: a frozen 4-bit base (Dettmers et al. 2023); needs a GPU
    lora: Lora = Lora()
    learning_rate: float = 2e-4
    epochs: float = 3.0
    max_steps: int | None = None  # stop earlier than the epochs say
    effective_batch: int = 16  # examples per optimizer step
    tokens_per_step: int | None = None  # sets effective_batch from the mean length instead
    micro_batch: int = 4  # examples per forward pass: memory only, not the result's meaning
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_tokens: int = 2048  # prompt + answer; longer examples are left out and counted
    gradient_checkpointing: bool = False
    fast: bool = True  # on a CPU: blocked attention, joined low-rank products, compiled parts
    loss: LossWeights = LossWeights()
    task_weights: dict[str, float] = field(default_factory=dict)  # of rows, by task; others 1
    pretrain: Pretrain = Pretrain()
    preference: Preference = Preference()
    checkpoint_steps: int = 50
    keep_checkpoints: int = 2
    log_steps: int = 5
    val_examples: int = 32  # validation loss is taken on that many, at each checkpoint
    val_answers: int = 16  # slot F1 is taken on that many generated answers; 0: it is not
    select: Literal["slot_f1", "loss", "last"] = "slot_f1"  # which checkpoint becomes the adapter
    patience: int | None = None  # checkpoints without a better one after which training stops
    max_train_examples: int | None = None  # a seeded sample of the train part
    augmented: bool = False  # also the checked variants that `fab dataset.augment` wrote
    checks: Checks = Checks()
    seed: int = 42  # the adapter's start, dropout and the order of the rows
    data_seed: int = 42  # which rows are sampled, and which texts are held out

    def __post_init__(self) -> None:
        if self.effective_batch % self.micro_batch:
            raise SemError(
                f"effective_batch {self.effective_batch} is no multiple of "
                f"micro_batch {self.micro_batch}",
                "choose micro_batch so that it divides effective_batch",
            )
        for name in ("effective_batch", "micro_batch", "checkpoint_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise SemError(f"{name} is below 1", f"write a {name} of 1 or more")
        if self.keep_checkpoints < 2:
            raise SemError(
                f"keep_checkpoints {self.keep_checkpoints}",
                "keep 2 or more: the older one is there while the newer is written",
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
        """What decides which checkpoint is kept: loss where no answers are generated."""
        return "loss" if self.select == "slot_f1" and not self.val_answers else self.select


def load_recipe(project: Project) -> Recipe:
    """train.yaml of PROJECT; SemError when it weighs a task that is none of the sem's."""
    recipe = project.settings("train", Recipe)
    for name in recipe.task_weights:
        if name not in project.tasks:
            raise SemError(f"task_weights: no task {name!r}", nearest(name, project.tasks))
    return recipe
