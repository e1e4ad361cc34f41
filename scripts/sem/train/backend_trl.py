"""Plain TRL and PEFT: any device, no Unsloth."""

from typing import Any

from sem.lm import model as models
from sem.train.fit import Job, fit, lora_config


def train(job: Job, resume: bool) -> dict[str, Any]:
    """Train JOB with transformers, PEFT and TRL."""
    from peft import get_peft_model
    from transformers import set_seed

    set_seed(job.recipe.seed)  # the adapter starts from random numbers too
    base = models.load(job.base, job.dtype, job.device)
    # fp32 adapter weights over a bf16 base: bf16 loses updates of 2e-4 on weights near 0.05.
    model = get_peft_model(base, lora_config(job.recipe), autocast_adapter_dtype=True)
    if job.recipe.gradient_checkpointing:
        model.enable_input_require_grads()
    return fit(job, model, resume)
