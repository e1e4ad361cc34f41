"""Unsloth on CUDA and ROCm: the same recipe, its fused kernels."""

from typing import Any

from sem.core.errors import SemError
from sem.train import adapters
from sem.train.fit import fit
from sem.train.stages import Job


def train(job: Job, resume: bool) -> dict[str, Any]:
    """Train JOB with unsloth's FastLanguageModel and the same trainer."""
    return fit(job, load(job), resume)


def load(job: Job) -> Any:
    """JOB's base model in unsloth's kernels, with its adapter; or every weight trainable."""
    try:
        import unsloth  # before trl and transformers, which it patches
    except ImportError as error:
        raise SemError(
            f"unsloth is not installed: {error}",
            "run `SEM_DEVICE=cuda ./scripts/setup_env.sh`, or set train.engine: trl",
        ) from error
    import torch

    recipe = job.recipe
    full = recipe.method == "full"
    model, _ = unsloth.FastLanguageModel.from_pretrained(
        model_name=str(job.base),
        max_seq_length=recipe.max_tokens,
        dtype=getattr(torch, job.dtype),
        load_in_4bit=recipe.load_in_4bit,
        full_finetuning=full,
    )
    if full:
        return adapters.wrap(model, recipe)
    config = adapters.lora_config(recipe, model)
    return unsloth.FastLanguageModel.get_peft_model(
        model,
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(config.target_modules),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        use_gradient_checkpointing="unsloth" if recipe.gradient_checkpointing else False,
        random_state=recipe.seed,
    )
