"""Train a prepared run with the engine it names, from the start or its last checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError
from sem.core.run import Run
from sem.lm.chat import Chat
from sem.train import callbacks, checkpoints
from sem.train.data import BatchOrder, Collator, Rows
from sem.train.loss import answer_loss
from sem.train.recipe import TARGETS, Recipe


@dataclass(frozen=True)
class Job:
    """All that an engine needs, resolved."""

    run: Run
    recipe: Recipe
    base: Path
    dtype: str
    device: str
    chat: Chat
    train: Rows
    val: Rows


def fit(job: Job, model: Any, resume: bool) -> dict[str, Any]:
    """Train the PEFT MODEL on JOB's rows; the final metrics. The adapter is sealed last."""
    folder = job.run.folder
    if folder is None:
        raise SemError("the run 'base' is not trained", "prepare a run with `fab train.prepare`")
    start = checkpoints.newest(folder)
    if start or resume:
        console.note(f"going on from {start.name if start else 'step 0: no complete checkpoint'}")
    trainer = build(job, model)
    result = trainer.train(resume_from_checkpoint=str(start) if start else None)
    publish(job, trainer.model)
    resumed = start.name if start else None
    return {**result.metrics, "steps": trainer.state.global_step, "resumed_from": resumed}


def build(job: Job, model: Any) -> Any:
    """An SFTTrainer over JOB that computes the head at labels only and seals checkpoints."""
    from peft.helpers import disable_input_dtype_casting
    from trl import SFTConfig, SFTTrainer

    class SealedTrainer(SFTTrainer):
        """TRL's trainer with our loss, our batch order and checkpoints that are whole."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.model_accepts_loss_kwargs = True  # the loss is divided by the label count below

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            labels = inputs["labels"]
            count = num_items_in_batch if num_items_in_batch is not None else _labelled(labels)
            with precision(job), disable_input_dtype_casting(model):
                loss = answer_loss(self.accelerator.unwrap_model(model), inputs, count)
            return (loss, {"loss": loss}) if return_outputs else loss

        def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            import torch

            with torch.no_grad():
                loss = self.compute_loss(model, self._prepare_inputs(inputs))
            return loss.detach(), None, None

        def _get_train_sampler(self, train_dataset: Any = None) -> BatchOrder:
            lengths = [len(row.ids) for row in job.train.kept]
            return BatchOrder(lengths, job.recipe.effective_batch, job.recipe.seed)

        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            super()._save_checkpoint(*args, **kwargs)
            checkpoints.seal(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    trainer = SealedTrainer(
        model=model,
        args=SFTConfig(**arguments(job)),
        train_dataset=_dataset(job.train),
        eval_dataset=_dataset(job.val) if job.val.kept else None,
        processing_class=job.chat.tokenizer,
        data_collator=Collator(job.chat.tokenizer.pad_token_id),
        callbacks=[
            callbacks.metrics_log(job.run.folder / "metrics.jsonl"),
            callbacks.finite_guard(),
            callbacks.progress_bar(),
        ],
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def precision(job: Job) -> Any:
    """Autocast to bf16 over a bf16 base: fp32 adapters then cost 5 % instead of a third."""
    import torch

    return torch.autocast(job.device, dtype=torch.bfloat16, enabled=job.dtype == "bfloat16")


def arguments(job: Job) -> dict[str, Any]:
    """The recipe in TRL's words."""
    recipe, folder = job.recipe, str(job.run.folder)
    saves = {"save_strategy": "steps", "save_steps": recipe.checkpoint_steps}
    checks = {"eval_strategy": "steps", "eval_steps": recipe.checkpoint_steps}
    steps = total_steps(recipe, len(job.train.kept))
    return {
        "output_dir": folder,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": round(recipe.warmup_ratio * steps),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "per_device_train_batch_size": recipe.micro_batch,
        "per_device_eval_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.effective_batch // recipe.micro_batch,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "logging_steps": recipe.log_steps,
        "logging_nan_inf_filter": False,
        "save_total_limit": recipe.keep_checkpoints,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": job.device == "cpu",
        "bf16": job.dtype == "bfloat16",  # autocast: fp32 adapters compute in bf16
        "report_to": callbacks.trackers(),
        "run_name": job.run.id,
        "loss_type": "nll",
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        **saves,
        **(checks if job.val.kept else {}),
    }


def total_steps(recipe: Recipe, examples: int) -> int:
    """Optimizer steps of the whole run."""
    per_epoch = -(-examples // recipe.effective_batch)
    planned = round(per_epoch * recipe.epochs)
    return min(planned, recipe.max_steps) if recipe.max_steps else planned


def lora_config(recipe: Recipe) -> Any:
    """The recipe's adapter in PEFT's words."""
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        use_rslora=recipe.lora.rslora,
        target_modules=sorted(TARGETS[recipe.lora.targets]),
        task_type="CAUSAL_LM",
    )


def publish(job: Job, model: Any) -> None:
    """Write the adapter, refuse one that is not finite, and name its base by id."""
    import torch

    named = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
    if named:
        raise SemError(f"{named[0]} is not finite after training", "lower train.learning_rate")
    adapter = job.run.folder / "adapter"
    model.save_pretrained(adapter)
    config = files.read_json(adapter / "adapter_config.json")
    # The order of target_modules changes with the hash seed; the path is this machine's.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = job.run.plan()["base_model"]["base_model_id"]
    files.write(adapter / "adapter_config.json", jsonio.pretty(config))
    (adapter / "README.md").unlink(missing_ok=True)


def _labelled(labels: Any) -> Any:
    return labels[:, 1:].ne(-100).sum()


def _dataset(rows: Rows) -> Any:
    from datasets import Dataset

    return Dataset.from_list(
        [{"input_ids": list(r.ids), "prompt": r.prompt, "labels": list(r.ids)} for r in rows.kept]
    )
