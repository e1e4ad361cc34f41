"""The trainer of one stage: our loss, our batch order, checkpoints that are whole."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.eval.answers import answers
from sem.eval.answers.answers import Answer
from sem.eval.scoring import metrics, scoring
from sem.lm.local.chat import Chat
from sem.lm.local.hf import HfGenerator
from sem.train.engine import adapters, arguments, checkpoints, several
from sem.train.engine import loss as losses
from sem.train.engine.arguments import SELECT, precision_context
from sem.train.engine.batches import BatchOrder, Collator, Seq2SeqCollator
from sem.train.rows.data import TrainingRow
from sem.train.rows.pairs import PreferencePair
from sem.train.rows.stages import Stage, TrainingJob

# Slot F1 while training: the model answers a few validation examples, and is scored.


class Probe:
    """A small set of validation examples with their prompts; `measure` answers them greedily.

    Slots that need a similarity model are left out here: they are scored by `fab eval.report`.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.tasks: dict[str, TaskSpec] = job.tasks
        self.prompts = answers.ordered_prompts(
            job.val_examples, job.tasks, job.chat, job.answering
        )

    def measure(self, model: Any) -> dict[str, float]:
        """eval_slot_f1 and the share of answers that are valid JSON, both 0 to 1."""
        was_training = model.training
        model.eval()
        generator = HfGenerator(model, self.job.chat)
        size, scores = self.job.answering.batch, []
        for start in range(0, len(self.prompts), size):
            part = self.prompts[start : start + size]
            outputs = generator.generate([prompt for _, prompt in part])
            for (example, _), output in zip(part, outputs, strict=True):
                answer = Answer(
                    example.id, example.task, output.text, output.finish, 0, 0, 0, len(part)
                )
                spec = self.tasks[example.task]
                scores.append(scoring.score_answer(example, answer, spec, None, self.job.slots))
        model.train(was_training)
        if was_training and hasattr(model, "for_training"):
            # unsloth's generate leaves gradient checkpointing off.
            model.for_training()
        f1 = metrics.micro_average_slots(
            [slot for score in scores for slot in score.slots.values()]
        )["f1"]
        valid = sum(score.json_valid for score in scores) / len(scores)
        return {"eval_slot_f1": f1 or 0.0, "eval_json_valid": valid}


TIE = 1e-6


class NotFinite(SemError):
    """A loss or gradient is not a number: nothing after it can be used."""


def build_trainer(
    job: TrainingJob, stage: Stage, model: Any, callbacks: list[Any], reference: Any = None
) -> Any:
    """Return a trainer of `model` over `stage` that computes the head at labels only.

    `reference`: (pairs, 2) log p of chosen and rejected before this stage, for dpo.
    """
    from transformers import PrinterCallback

    base, config = _engine(model)
    apart = (
        (several.GradientSyncMixin, SemTrainerMixin, several.CheckpointBarrierMixin)
        if several.process_count() > 1
        else (SemTrainerMixin,)
    )
    trainer_class = type("SealedTrainer", (*apart, base), {})
    args = config(**arguments.training_arguments(job, stage))
    # DataParallel over every GPU would multiply the batch.
    args._n_gpu = min(args.n_gpu, 1)
    trainer = trainer_class(
        job,
        stage,
        model=model,
        args=args,
        train_dataset=_numbers(len(stage.rows.kept)),
        eval_dataset=_numbers(len(stage.val.kept)) if stage.val.kept else None,
        processing_class=job.chat.tokenizer,
        data_collator=NumberedCollator(
            build_collator(job, model), stage_records(stage, reference)
        ),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def build_collator(job: TrainingJob, model: Any) -> Collator:
    """Return what pads rows for `model`: one sequence, or an encoder's and a decoder's."""
    return collator_for(model, job.chat)


def collator_for(model: Any, chat: Chat) -> Collator:
    """Return what pads rows that `chat` wrote for `model`."""
    kind = Seq2SeqCollator if model.config.is_encoder_decoder else Collator
    return kind(chat.tokenizer.pad_token_id)


def _engine(model: Any) -> tuple[Any, Any]:
    if model.config.is_encoder_decoder:
        from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

        return Seq2SeqTrainer, Seq2SeqTrainingArguments
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer, SFTConfig


class SemTrainerMixin:
    """What stands before a Trainer's own: our loss and order, stops on NaN, whole checkpoints."""

    def __init__(self, job: TrainingJob, stage: Stage, **words: Any) -> None:
        self.job, self.stage = job, stage
        self.minimised = losses.LOSSES[stage.loss]
        super().__init__(**words)
        # The loss is divided by the whole step's count.
        self.model_accepts_loss_kwargs = True
        self.probe = Probe(job) if stage.answers and job.val_examples else None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        import torch

        count = num_items_in_batch
        if count is None:
            count = self._get_num_items_in_batch([inputs], self.args.device)
        with precision_context(self.job, model):
            inner = self.accelerator.unwrap_model(model)
            loss = self.minimised(inner, inputs, count, self.stage.beta)
        if not torch.isfinite(loss):
            raise NotFinite(
                f"step {self.state.global_step + 1}: loss is {loss.item()} on "
                f"{', '.join(self.ids(inputs))}",
                "lower train.learning_rate; the last checkpoint is intact",
            )
        return (loss, {"loss": loss}) if return_outputs else loss

    def ids(self, inputs: dict[str, Any]) -> list[str]:
        """Return the ids of the examples in `inputs`."""
        return [self.stage.rows.kept[number].id for number in inputs["number"].tolist()]

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        import torch

        whole = sum(_count(batch, self.stage) for batch in batch_samples)
        count = torch.as_tensor(whole, dtype=torch.float32, device=device)
        # Each process holds a part of the step.
        if self.args.world_size > 1:
            return self.accelerator.gather(count).sum()
        return count

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm of the step's gradient; an infinite one would be clipped to no step."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not math.isfinite(float(norm)):
            raise NotFinite(
                f"step {self.state.global_step + 1}: the gradient's norm is {float(norm)}",
                "lower train.learning_rate; the last checkpoint is intact",
            )
        return norm

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Token-mean loss, perplexity and slot F1 on the validation rows."""
        metrics = self._loss_on_val()
        if self.probe:
            with precision_context(self.job, self.model):
                metrics |= self.probe.measure(self.accelerator.unwrap_model(self.model))
        metrics[SELECT] = -metrics["eval_loss"] * (TIE if "eval_slot_f1" in metrics else 1.0)
        metrics[SELECT] += metrics.get("eval_slot_f1", 0.0)
        metrics["epoch"] = self.state.epoch
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _loss_on_val(self) -> dict[str, float]:
        import torch

        # Each token counts one here: else runs with other loss weights could not be compared.
        rows = [
            collator_record(n, row) | {"weights": None}
            for n, row in enumerate(self.stage.val.kept)
        ]
        pad = build_collator(self.job, self.model)
        size, total, weight = self.job.recipe.micro_batch, 0.0, 0.0
        self.model.eval()
        with torch.no_grad(), precision_context(self.job, self.model):
            for start in range(0, len(rows), size):
                batch = pad(rows[start : start + size])
                scored = losses.token_cross_entropy(
                    self.accelerator.unwrap_model(self.model), self._prepare_inputs(batch)
                )
                total += (scored.values * scored.weights).sum().item()
                weight += scored.weights.sum().item()
        self.model.train()
        loss = total / weight
        return {"eval_loss": loss, "eval_perplexity": math.exp(min(loss, 700.0))}

    def _get_train_sampler(self, train_dataset: Any = None) -> BatchOrder:
        lengths = [row.length for row in self.stage.rows.kept]
        return BatchOrder(lengths, self.job.recipe.effective_batch, self.job.recipe.seed)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        # The recipe's values, which an update may have changed.
        if checkpoint is not None:
            _set_rates(self)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: the package has its own."""

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        from safetensors import SafetensorError

        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        adapters.refuse_infinite(self.model, f"at step {self.state.global_step}")
        try:
            super()._save_checkpoint(*args, **kwargs)
            if self.is_world_process_zero():
                checkpoints.seal_checkpoint(folder)
        except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError: torch's own
            shutil.rmtree(folder, ignore_errors=True)
            raise SemError(
                f"{folder.name} was not written: {' '.join(str(error).split())[:200]}",
                "free space on this disk, then continue with `fab train.resume`",
            ) from error


def _set_rates(trainer: Any) -> None:
    """Give the loaded optimizer and schedule the learning rate and decay of the arguments."""
    args = trainer.args
    for number, group in enumerate(trainer.optimizer.param_groups):
        group["initial_lr"] = args.learning_rate
        # The trainer's first group decays; biases and norms, its second, never do.
        group["weight_decay"] = 0.0 if number else args.weight_decay
    wrapped = trainer.lr_scheduler
    scheduler = getattr(wrapped, "scheduler", wrapped)
    scheduler.base_lrs = [args.learning_rate for _ in scheduler.base_lrs]
    shares = [share(scheduler.last_epoch) for share in scheduler.lr_lambdas]
    scheduler._last_lr = [args.learning_rate * share for share in shares]
    for group, rate in zip(trainer.optimizer.param_groups, scheduler._last_lr, strict=True):
        group["lr"] = rate


def _count(batch: dict[str, Any], stage: Stage) -> Any:
    """Return what a batch counts in its step: the weights of its tokens, or its pairs."""
    return batch["weights"].sum() if stage.loss == "answer" else len(batch["number"])


def _numbers(count: int) -> Any:
    """Return what TRL takes as a dataset: the places of the rows."""
    from datasets import Dataset

    return Dataset.from_dict({"number": list(range(count))})


@dataclass(frozen=True)
class NumberedCollator:
    """A collator of places: the rows themselves never go through a dataset."""

    collate: Collator
    records: Sequence[dict[str, Any]]

    def __call__(self, places: Sequence[dict[str, int]]) -> dict[str, Any]:
        return self.collate([self.records[place["number"]] for place in places])


def stage_records(stage: Stage, reference: Any = None) -> list[dict[str, Any]]:
    """Return the rows of `stage` as the collator takes them."""
    records = [collator_record(number, row) for number, row in enumerate(stage.rows.kept)]
    if reference is not None:
        for record, before in zip(records, reference.tolist(), strict=True):
            record["reference"] = before
    return records


def collator_record(number: int, row: TrainingRow | PreferencePair) -> dict[str, Any]:
    """Return `row`, the NUMBERth of its stage, as the collator takes it."""
    if isinstance(row, PreferencePair):
        sides = {
            "chosen": collator_record(number, row.chosen),
            "rejected": collator_record(number, row.rejected),
        }
        return {"number": number, **sides}
    return {"number": number, "ids": row.ids, "prompt": row.prompt, "weights": row.weights}
