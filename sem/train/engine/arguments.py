"""A recipe in the words of transformers' Trainer, and the precision it computes in."""

from contextlib import AbstractContextManager
from typing import Any

from sem.core import files
from sem.train.engine import several
from sem.train.recipe import Recipe
from sem.train.rows.stages import Stage, TrainingJob

# What decides: slot F1, ties by validation loss; or that loss alone.
SELECT = "eval_select"


class _Precision:
    """Autocast to bf16 over a bf16 base: fp32 adapters then cost 5 % instead of a third."""

    def __init__(self, job: TrainingJob, model: Any) -> None:
        self.job, self.model = job, model

    def __enter__(self) -> None:
        import torch
        from peft.helpers import disable_input_dtype_casting

        enabled = self.job.dtype == "bfloat16"
        self.held = [torch.autocast(self.job.device, dtype=torch.bfloat16, enabled=enabled)]
        if hasattr(self.model, "peft_config"):
            self.held.append(disable_input_dtype_casting(self.model))
        for context in self.held:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self.held):
            context.__exit__(*error)


def precision_context(job: TrainingJob, model: Any) -> AbstractContextManager[None]:
    """Return the context that `model` computes in, for training and for looking at it."""
    return _Precision(job, model)


def training_arguments(job: TrainingJob, stage: Stage) -> dict[str, Any]:
    """Return the recipe in the trainer's words; what TRL alone knows only where TRL trains."""
    recipe, steps = job.recipe, stage.steps(job.recipe)
    at_once = recipe.micro_batch * several.process_count()
    decides = checkpoint_criterion(recipe, stage)
    checks = {"eval_strategy": "steps", "eval_steps": recipe.checkpoint_steps}
    best = {
        "load_best_model_at_end": True,
        "metric_for_best_model": SELECT,
        "greater_is_better": True,
    }
    return {
        "output_dir": str(stage.folder(job.run)),
        "num_train_epochs": stage.epochs,
        "max_steps": stage.max_steps or -1,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": round(recipe.warmup_ratio * steps),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "per_device_train_batch_size": recipe.micro_batch,
        "per_device_eval_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.effective_batch // at_once,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "logging_steps": recipe.log_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_steps,
        "save_total_limit": recipe.keep_checkpoints,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": job.device == "cpu",
        # autocast: fp32 adapters compute in bf16.
        "bf16": job.dtype == "bfloat16",
        # Tracking is a callback of ours.
        "report_to": [],
        "run_name": job.run.id,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        **(checks if stage.val.kept else {}),
        **(best if decides != "last" else {}),
        **({} if _encodes(job) else TRL_ONLY),
    }


TRL_ONLY = {
    "loss_type": "nll",
    "max_length": None,
    "dataset_kwargs": {"skip_prepare_dataset": True},
}


def checkpoint_criterion(recipe: Recipe, stage: Stage) -> str:
    """Return what decides which checkpoint of `stage` is kept; last where nothing is validated."""
    if not stage.val.kept:
        return "last"
    return "loss" if recipe.selects == "slot_f1" and not stage.answers else recipe.selects


def _encodes(job: TrainingJob) -> bool:

    return bool(files.read_object(job.base / "config.json").get("is_encoder_decoder"))
