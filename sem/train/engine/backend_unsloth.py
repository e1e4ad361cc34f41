"""Unsloth on CUDA and ROCm: the same recipe, its fused kernels."""

import os
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.train.engine import adapters
from sem.train.engine.fit import fit_stages
from sem.train.rows.stages import TrainingJob


def train_with_unsloth(job: TrainingJob, resume: bool) -> dict[str, Any]:
    """Train `job` with unsloth's FastLanguageModel and the same trainer."""
    return fit_stages(job, load_unsloth_base(job), resume)


def load_unsloth_base(job: TrainingJob) -> Any:
    """`job`'s base model in unsloth's kernels, with its adapter; or every weight trainable."""
    fast = import_unsloth().FastLanguageModel
    import torch

    recipe = job.recipe
    full = recipe.method == "full"
    checkpointing = "unsloth" if recipe.gradient_checkpointing else False
    model, _ = fast.from_pretrained(
        model_name=str(job.base),
        max_seq_length=longest_row_tokens(job),
        dtype=getattr(torch, job.dtype),
        load_in_4bit=recipe.load_in_4bit,
        full_finetuning=full,
        # Else it offloads activations unasked.
        use_gradient_checkpointing=checkpointing,
        # This folder, not what a hub has under a like name.
        use_exact_model_name=True,
        random_state=recipe.seed,
    )
    if full:
        return adapters.prepare_trainable_model(model, recipe)
    config = adapters.lora_config(recipe, model)
    return fast.get_peft_model(
        model,
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(config.target_modules),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        use_gradient_checkpointing=checkpointing,
        random_state=recipe.seed,
    )


def longest_row_tokens(job: TrainingJob) -> int:
    """Return the tokens of the longest row, within what the model knows.

    Beyond, unsloth bends RoPE.
    """
    limit = files.read_object(job.base / "config.json").get("max_position_embeddings")
    return min(job.recipe.max_tokens, limit or job.recipe.max_tokens)


def import_unsloth(cache: Path | None = None) -> Any:
    """Return the module unsloth, told to keep what it generates in `cache` and to report to
    nobody.
    """
    # It runs what it finds in that folder: one that only this user writes to, never the project's.
    folder = cache or Path.home() / ".cache" / "sem"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(folder / "unsloth"))
    # Else each load counts at a hub.
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    try:
        # Before trl and transformers, which it patches.
        import unsloth
    except ImportError as error:
        raise SemError(
            f"unsloth is not installed: {error}",
            "run `SEM_DEVICE=cuda ./scripts/setup_env.sh`, or set train.engine: trl",
        ) from error
    except NotImplementedError as error:  # what it raises where torch sees no card
        raise SemError(
            "unsloth needs a GPU, and torch sees none here", "set train.engine: trl"
        ) from error
    return unsloth
