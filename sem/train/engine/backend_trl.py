"""Plain TRL and PEFT: any device, no Unsloth. Encoder-decoders (the T5 family), too."""

from typing import Any

from sem.core import console
from sem.lm.local import model as models
from sem.train.engine import adapters
from sem.train.engine.fit import fit_stages
from sem.train.fast import head, layers
from sem.train.rows.stages import TrainingJob


def train_with_trl(job: TrainingJob, resume: bool) -> dict[str, Any]:
    """Train `job` with transformers, PEFT and TRL."""
    return fit_stages(job, load_trl_base(job), resume)


def load_trl_base(job: TrainingJob) -> Any:
    """`job`'s base model, ready to train, the same from the same seed."""
    base = models.load_model(job.base, job.dtype, job.device, **quantization_options(job))
    model, notes = ready_for_training(job, base)
    if notes:
        console.print_note(f"speed: {', '.join(notes)}")
    return model


def ready_for_training(job: TrainingJob, base: Any) -> tuple[Any, list[str]]:
    """Return `base`, ready to train as `job` says, and what made it fast.

    The same seed gives the same model.
    """
    from transformers import set_seed

    # Asked here, where no layer is compiled yet.
    head.finish_of(base)
    # The adapter starts from random numbers too.
    set_seed(job.recipe.seed)
    model = adapters.prepare_trainable_model(base, job.recipe)
    if job.recipe.gradient_checkpointing and hasattr(model, "enable_input_require_grads"):
        model.enable_input_require_grads()
    tokens = sum(stage.tokens() for stage in job.stages)
    return model, layers.speed_up(model, tokens) if job.recipe.fast else []


def quantization_options(job: TrainingJob) -> dict[str, Any]:
    """Return words that load the base in 4-bit NormalFloat for QLoRA, where the recipe asks for
    it.
    """
    if not job.recipe.load_in_4bit:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, job.dtype),
    )
    return {"quantization_config": config, "device_map": {"": job.device}}
