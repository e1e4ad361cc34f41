"""Train a prepared run, stage after stage, from the start or its last checkpoint."""

import math
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import console, files, manifest, state
from sem.core.errors import SemError
from sem.train.engine import adapters, arguments, checkpoints, several, trainer
from sem.train.engine import loss as losses
from sem.train.engine.batches import BatchOrder
from sem.train.recipe import Recipe
from sem.train.rows.stages import PREFERENCE, Stage, TrainingJob
from sem.train.tracking import tracking

# What happens while training: metrics.jsonl, the bar, a request to stop.


class PreemptedError(SemError):
    """The system asked to end: a checkpoint was written and nothing is lost."""

    # EX_TEMPFAIL: run the same command again.
    exit_code = 75


def metrics_log(path: Path, stage: str) -> Any:
    """Return a callback that appends every logged value to `path` as one row, without repeating
    steps.
    """
    from transformers import TrainerCallback

    class MetricsLog(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            keep_until(path, stage, state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            row = {k: _plain(v) for k, v in (logs or {}).items()}
            with files.open_for_append(path) as file:
                files.append_row(file, {"stage": stage, "step": state.global_step, **row})

    return MetricsLog()


def keep_until(path: Path, stage: str, step: int) -> None:
    """Drop rows of `stage` after `step` from `path`: a resumed run writes them again."""
    if path.exists():
        with files.open_for_append(path):
            # Cuts a torn last line.
            pass
        logged = state.read_state_rows(path, state.LoggedStep)
        rows = [row for row in logged if row["stage"] != stage or row["step"] <= step]
        files.write_rows(path, rows)


def build_recipe_callback(folder: Path) -> Any:
    """Return a callback that takes the recipe's word over what a checkpoint recorded.

    How often to log and save, and where the best checkpoint is after the run moved or lost it.
    """
    from transformers import TrainerCallback

    class Rebase(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for name in ("logging_steps", "eval_steps", "save_steps"):
                setattr(state, name, getattr(args, name))
            if not state.best_global_step:
                return
            best = folder / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(best)
            if not best.exists() or not checkpoints.is_complete(best):
                console.print_note(
                    f"{best.name}, the best so far, is gone: the best from here on counts"
                )
                state.best_model_checkpoint = state.best_metric = state.best_global_step = None

    return Rebase()


class StopSignal:
    """Whether the system has asked to end, by SIGTERM or SIGINT; the second time ends at once."""

    def __init__(self) -> None:
        self.asked: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for signals as long as this is open; only a main thread can."""
        kinds = (signal.SIGTERM, signal.SIGINT)
        before = {}
        try:
            for kind in kinds:
                before[kind] = signal.signal(kind, self._hear)
        except ValueError:
            # Not the main thread: whoever owns the process hears them.
            pass
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _hear(self, kind: int, _: Any) -> None:
        if self.asked is not None:
            raise KeyboardInterrupt
        self.asked = kind
        console.print_note("asked to stop: a checkpoint is written after this step")

    def callback(self) -> Any:
        """Return a callback that writes a checkpoint and stops at the end of the step."""
        from transformers import TrainerCallback

        stop = self

        class Stopper(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
                stop.asked = several.max_across_processes(stop.asked or 0) or None
                if stop.asked is not None:
                    control.should_save = control.should_training_stop = True
                    control.should_evaluate = False
                return control

        return Stopper()

    def raise_if_asked(self, step: int, steps: int) -> None:
        """Preempted (exit 75) after SIGTERM, KeyboardInterrupt (exit 130) after SIGINT."""
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is not None:
            raise PreemptedError(
                f"stopped at step {step} of {steps} by signal {self.asked}",
                "a checkpoint is written: continue with `fab train.resume`",
            )


def training_bar(title: str) -> Any:
    """Return a callback that shows steps, time left and the last losses as one bar on stderr."""
    from transformers import TrainerCallback

    class ProgressBar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = console.progress_bar()
            self.task = self.bar.add_task(title, total=state.max_steps)
            self.bar.start()
            self.bar.update(self.task, completed=state.global_step)
            self.shown: dict[str, str] = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(self.task, completed=state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, label in (("loss", "loss"), ("eval_loss", "val"), ("eval_slot_f1", "F1")):
                if name in (logs or {}):
                    self.shown[name] = f"{label} {float(logs[name]):.3f}"
            self.bar.update(self.task, description=" ".join([title, *self.shown.values()]))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.stop()

    return ProgressBar()


def _plain(value: Any) -> Any:
    number = float(value) if hasattr(value, "__float__") else value
    if isinstance(number, float) and not math.isfinite(number):
        return str(number)
    return number


# How fast and how large training is, written beside every logged loss.

GIB = 2**30
# ru_maxrss counts KiB on Linux and bytes on a Mac.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass
class StepTokens:
    """Tokens of each optimizer step, known beforehand: the order of rows is a function."""

    stage: Stage
    recipe: Recipe
    orders: dict[int, list[int]] = field(default_factory=dict)

    def tokens(self, first: int, last: int) -> tuple[int, int]:
        """(all, trained) tokens of the steps after `first` up to `last`."""
        rows, size = self.stage.rows.kept, self.recipe.effective_batch
        per_epoch = -(-len(rows) // size)
        total = trained = 0
        for step in range(first, last):
            epoch, place = divmod(step, per_epoch)
            for number in self._order(epoch)[place * size : (place + 1) * size]:
                total += rows[number].length
                trained += _trained(rows[number])
        return total, trained

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self.orders:
            lengths = [row.length for row in self.stage.rows.kept]
            order = BatchOrder(lengths, self.recipe.effective_batch, self.recipe.seed, epoch)
            self.orders = {epoch: list(order)}
        return self.orders[epoch]


def tokens_per_second(pace: StepTokens, first: int, last: int, seconds: float) -> dict[str, float]:
    """tokens_per_second and trained_tokens_per_second of the steps after `first` up to `last`."""
    total, trained = pace.tokens(first, last)
    rates = {"tokens_per_second": total, "trained_tokens_per_second": trained}
    return {name: round(count / seconds, 1) for name, count in rates.items()} if seconds else {}


def peak_memory_gib(device: str) -> float:
    """Return the most this process has held: allocated on a GPU, resident on a CPU."""
    if device == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated() / GIB, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / GIB, 3)


def speed_callback(job: TrainingJob, stage: Stage) -> Any:
    """Return a callback that adds speed, peak memory and perplexity to what is logged.

    It stands first.

    Seconds are those between the begin and the end of steps: checks and checkpoints do not
    count. Perplexity is exp of a loss that counts each token once; a weighted one has none.
    """
    from transformers import TrainerCallback

    pace = StepTokens(stage, job.recipe)
    is_plain = stage.loss == "answer" and job.recipe.loss.is_flat and not job.recipe.task_weights

    class Gauge(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds, self.told = 0.0, state.global_step

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds += time.monotonic() - self.began

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            logs.update(tokens_per_second(pace, self.told, state.global_step, self.seconds))
            logs["peak_memory_gib"] = peak_memory_gib(job.device)
            if is_plain:
                logs["perplexity"] = math.exp(min(float(logs["loss"]), 700.0))
            self.seconds, self.told = 0.0, state.global_step

    return Gauge()


def _trained(row: Any) -> int:
    sides = [getattr(row, side) for side in ("chosen", "rejected") if hasattr(row, side)]
    return sum(side.trained for side in sides or [row])


REFERENCE = "reference.safetensors"


def fit_stages(job: TrainingJob, model: Any, resume: bool) -> dict[str, Any]:
    """Train `model` (`adapters.wrap`) through `job`'s stages; the final metrics.

    A stage that is over is not repeated: its weights are read. The adapter is written last.
    """
    results, last = {}, job.stages[-1].name
    stop = StopSignal()
    with stop.listening(), tracking.open_trackers(job.run, job.tracking) as follow:
        for number, stage in enumerate(job.stages):
            if stage.is_over(job.run):
                adapters.load_trained_weights(model, stage.result(job.run), job.recipe)
                console.print_note(f"{stage.name}: already finished")
                continue
            results[stage.name] = _stage(job, number, model, resume, stop, follow)
            if stage.name != last:
                _finish(job, stage, model)
    base = job.run.plan()["base_model"]["base_model_id"]
    if several.is_first():
        adapters.save_trained_weights(model, job.folder / "adapter", base, job.recipe)
    several.wait_for_processes()
    return {**results.get(last, {}), "stages": results}


def _stage(
    job: TrainingJob,
    number: int,
    model: Any,
    resume: bool,
    stop: StopSignal,
    follow: tracking.OpenTrackers,
) -> dict[str, Any]:
    from transformers import set_seed

    stage = job.stages[number]
    folder = stage.folder(job.run)
    folder.mkdir(parents=True, exist_ok=True)
    start = several.compute_once(lambda: checkpoints.newest_checkpoint(folder))
    if start or resume:
        console.print_note(
            f"{stage.name}: continuing from {start.name if start else 'step 0: no checkpoint'}"
        )
    # The first stage was seeded before its adapter was made.
    if number:
        set_seed(job.recipe.seed + number)
    reference = None
    if stage.loss == "dpo":
        reference = several.compute_once(lambda: _reference(job, stage, model))
    before = sum(earlier_stage.steps(job.recipe) for earlier_stage in job.stages[:number])
    watching = [*_callbacks(job, stage, stop), follow.callback(stage.name, before)]
    built = trainer.build_trainer(job, stage, model, watching, reference)
    result = built.train(resume_from_checkpoint=str(start) if start else None)
    state = built.state
    stop.raise_if_asked(state.global_step, state.max_steps)
    best_step = state.best_global_step if built.args.load_best_model_at_end else None
    if best_step and best_step != state.global_step:
        console.print_note(
            f"{stage.name}: step {best_step} of {state.global_step} is kept: "
            f"best {arguments.checkpoint_criterion(job.recipe, stage)}"
        )
    return {
        **result.metrics,
        "steps": state.global_step,
        "kept_step": best_step or state.global_step,
        "resumed_from": start.name if start else None,
    }


def _callbacks(job: TrainingJob, stage: Stage, stop: StopSignal) -> list[Any]:
    hooks = [build_recipe_callback(stage.folder(job.run)), stop.callback()]
    if several.is_first():
        hooks = [
            speed_callback(job, stage),
            metrics_log(job.folder / "metrics.jsonl", stage.name),
            training_bar("training" if len(job.stages) == 1 else stage.name),
            *hooks,
        ]
    if job.recipe.patience and arguments.checkpoint_criterion(job.recipe, stage) != "last":
        from transformers import EarlyStoppingCallback

        hooks.append(EarlyStoppingCallback(early_stopping_patience=job.recipe.patience))
    return hooks


def _finish(job: TrainingJob, stage: Stage, model: Any) -> None:
    """Write the weights at the end of `stage`, complete or not there."""
    folder = stage.result(job.run)
    base = job.run.plan()["base_model"]["base_model_id"]
    if several.is_first():
        adapters.save_trained_weights(model, folder, base, job.recipe)
        manifest.seal_folder(folder)
    several.wait_for_processes()


def _reference(job: TrainingJob, stage: Stage, model: Any) -> Any:
    """(pairs, 2) log p under `model` as it is now; written once, so that a resume has the same."""
    import torch
    from safetensors.torch import load_file, save

    path = stage.folder(job.run) / REFERENCE
    if path.exists():
        return load_file(path)["log_p"]
    pad, size = trainer.build_collator(job, model), job.recipe.micro_batch
    records, scores = trainer.stage_records(stage), []
    model.eval()
    steps = range(0, len(records), size)
    with torch.no_grad(), arguments.precision_context(job, model):
        for at in console.show_progress(steps, len(steps), f"{PREFERENCE}: before"):
            batch = {k: v.to(job.device) for k, v in pad(records[at : at + size]).items()}
            scores.append(
                torch.stack(losses.token_cross_entropy(model, batch).by_sequence().chunk(2), dim=1)
            )
    model.train()
    log_p = torch.cat(scores).float().cpu()
    files.write_file(path, save({"log_p": log_p}))
    return log_p
