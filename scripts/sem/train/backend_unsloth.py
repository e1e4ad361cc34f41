"""Unsloth on CUDA and ROCm: the same recipe, its fused kernels."""

from typing import Any

from sem.core.errors import SemError
from sem.train.fit import Job, fit, lora_config


def train(job: Job, resume: bool) -> dict[str, Any]:
    """Train JOB with unsloth's FastLanguageModel and the same trainer."""
    try:
        import unsloth  # before trl and transformers, which it patches
    except ImportError as error:
        raise SemError(
            f"unsloth is not installed: {error}",
            "run `SEM_DEVICE=cuda ./scripts/setup_env.sh`, or set train.engine: trl",
        ) from error
    import torch

    model, _ = unsloth.FastLanguageModel.from_pretrained(
        model_name=str(job.base),
        max_seq_length=job.recipe.max_tokens,
        dtype=getattr(torch, job.dtype),
        load_in_4bit=False,
    )
    config = lora_config(job.recipe)
    model = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(config.target_modules),
        use_rslora=config.use_rslora,
        use_gradient_checkpointing="unsloth" if job.recipe.gradient_checkpointing else False,
        random_state=job.recipe.seed,
    )
    return fit(job, model, resume)
