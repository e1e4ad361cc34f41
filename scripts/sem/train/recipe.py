"""train.yaml: one recipe for every engine. What each key moves is said beside it in the file."""

from dataclasses import dataclass
from typing import Literal

from sem.core.errors import SemError

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS: dict[str, tuple[str, ...]] = {
    "all-linear": (*ATTENTION, "gate_proj", "up_proj", "down_proj"),
    "attention": ATTENTION,
    "qv": ("q_proj", "v_proj"),
}


@dataclass(frozen=True)
class Lora:
    """Low-rank adapter (Hu et al. 2021): rank, alpha, dropout, which linear layers."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: Literal["all-linear", "attention", "qv"] = "all-linear"
    rslora: bool = False


@dataclass(frozen=True)
class Recipe:
    """How a run is trained; defaults are the plan's."""

    engine: Literal["auto", "trl", "unsloth"] = "auto"
    lora: Lora = Lora()
    learning_rate: float = 2e-4
    epochs: float = 3.0
    max_steps: int | None = None  # stop earlier than the epochs say
    effective_batch: int = 16  # examples per optimizer step
    micro_batch: int = 4  # examples per forward pass: memory only, not the result's meaning
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_tokens: int = 2048  # prompt + answer; longer examples are left out and counted
    gradient_checkpointing: bool = False
    checkpoint_steps: int = 50
    keep_checkpoints: int = 2
    log_steps: int = 5
    val_examples: int = 32  # validation loss is taken on that many, at each checkpoint
    max_train_examples: int | None = None  # a seeded sample of the train part
    augmented: bool = False  # also the checked variants that `fab dataset.augment` wrote
    seed: int = 42

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
        if not 0 < self.learning_rate < 1:
            raise SemError(f"learning_rate {self.learning_rate}", "0 < rate < 1")
