"""Train a prepared run, stage after stage, from the start or its last checkpoint."""

from typing import Any

from sem.core import console, files, manifest
from sem.train.engine import (
    adapters,
    arguments,
    callbacks,
    checkpoints,
    several,
    speed_gauge,
    trainer,
)
from sem.train.engine import loss as losses
from sem.train.rows.stages import PREFERENCE, Job, Stage
from sem.train.tracking import tracking

REFERENCE = "reference.safetensors"


def fit_stages(job: Job, model: Any, resume: bool) -> dict[str, Any]:
    """Train `model` (`adapters.wrap`) through `job`'s stages; the final metrics.

    A stage that is over is not repeated: its weights are read. The adapter is written last.
    """
    results, last = {}, job.stages[-1].name
    stop = callbacks.Stop()
    with stop.listening(), tracking.following(job.run, job.tracking) as follow:
        for number, stage in enumerate(job.stages):
            if stage.is_over(job.run):
                adapters.load_trained_weights(model, stage.result(job.run), job.recipe)
                console.note(f"{stage.name}: finished before")
                continue
            results[stage.name] = _stage(job, number, model, resume, stop, follow)
            if stage.name != last:
                _finish(job, stage, model)
    base = job.run.plan()["base_model"]["base_model_id"]
    if several.is_first():
        adapters.save_trained_weights(model, job.folder / "adapter", base, job.recipe)
    several.meet()
    return {**results.get(last, {}), "stages": results}


def _stage(
    job: Job,
    number: int,
    model: Any,
    resume: bool,
    stop: callbacks.Stop,
    follow: tracking.Following,
) -> dict[str, Any]:
    from transformers import set_seed

    stage = job.stages[number]
    folder = stage.folder(job.run)
    folder.mkdir(parents=True, exist_ok=True)
    start = several.once(lambda: checkpoints.newest_checkpoint(folder))
    if start or resume:
        console.note(
            f"{stage.name}: going on from {start.name if start else 'step 0: no checkpoint'}"
        )
    # The first stage was seeded before its adapter was made.
    if number:
        set_seed(job.recipe.seed + number)
    reference = None
    if stage.loss == "dpo":
        reference = several.once(lambda: _reference(job, stage, model))
    before = sum(earlier_stage.steps(job.recipe) for earlier_stage in job.stages[:number])
    watching = [*_callbacks(job, stage, stop), follow.callback(stage.name, before)]
    built = trainer.build_trainer(job, stage, model, watching, reference)
    result = built.train(resume_from_checkpoint=str(start) if start else None)
    state = built.state
    stop.raise_if_asked(state.global_step, state.max_steps)
    best_step = state.best_global_step if built.args.load_best_model_at_end else None
    if best_step and best_step != state.global_step:
        console.note(
            f"{stage.name}: step {best_step} of {state.global_step} is kept: "
            f"best {arguments.selects(job.recipe, stage)}"
        )
    return {
        **result.metrics,
        "steps": state.global_step,
        "kept_step": best_step or state.global_step,
        "resumed_from": start.name if start else None,
    }


def _callbacks(job: Job, stage: Stage, stop: callbacks.Stop) -> list[Any]:
    hooks = [callbacks.rebase(stage.folder(job.run)), stop.callback()]
    if several.is_first():
        hooks = [
            speed_gauge.callback(job, stage),
            callbacks.metrics_log(job.folder / "metrics.jsonl", stage.name),
            callbacks.training_bar("training" if len(job.stages) == 1 else stage.name),
            *hooks,
        ]
    if job.recipe.patience and arguments.selects(job.recipe, stage) != "last":
        from transformers import EarlyStoppingCallback

        hooks.append(EarlyStoppingCallback(early_stopping_patience=job.recipe.patience))
    return hooks


def _finish(job: Job, stage: Stage, model: Any) -> None:
    """Write the weights at the end of `stage`, complete or not there."""
    folder = stage.result(job.run)
    base = job.run.plan()["base_model"]["base_model_id"]
    if several.is_first():
        adapters.save_trained_weights(model, folder, base, job.recipe)
        manifest.seal_folder(folder)
    several.meet()


def _reference(job: Job, stage: Stage, model: Any) -> Any:
    """(pairs, 2) log p under `model` as it is now; written once, so that a resume has the same."""
    import torch
    from safetensors.torch import load_file, save

    path = stage.folder(job.run) / REFERENCE
    if path.exists():
        return load_file(path)["log_p"]
    pad, size = trainer.collator(job, model), job.recipe.micro_batch
    records, scores = trainer.stage_records(stage), []
    model.eval()
    steps = range(0, len(records), size)
    with torch.no_grad(), arguments.precision(job, model):
        for at in console.show_progress(steps, len(steps), f"{PREFERENCE}: before"):
            batch = {k: v.to(job.device) for k, v in pad(records[at : at + size]).items()}
            scores.append(
                torch.stack(losses.token_cross_entropy(model, batch).by_sequence().chunk(2), dim=1)
            )
    model.train()
    log_p = torch.cat(scores).float().cpu()
    files.write_file(path, save({"log_p": log_p}))
    return log_p
