"""train.prepare resolves everything into run.json; train.run is a function of that file."""

from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from sem.core import console, files, jsonio, manifest, provenance, run, settings, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run, finished_run_error
from sem.dataset.split import acknowledge, snapshot
from sem.dataset.split.snapshot import Snapshot
from sem.eval.config import EvalSettings
from sem.lm.local import chat, hardware
from sem.lm.local.hardware import Hardware
from sem.lm.weights import pinned_base, weights
from sem.train import recipe as recipes
from sem.train.engine import engines, several
from sem.train.recipe import Recipe
from sem.train.rows import data, parts
from sem.train.rows.parts import TrainingData
from sem.train.rows.stages import TrainingJob
from sem.train.run import memory, preflight
from sem.train.tracking import tracking

FORMAT = "run.v1"
# One pass of the demo takes 102; told to a person, decides nothing.
FEW_STEPS = 40
# Of two runs that are the same.
VOLATILE = ("created_at", "source", "preflight")


def prepare_training(
    project: Project,
    version: int | None,
    sweep: str | None = None,
    machine: Hardware | None = None,
) -> Run:
    """Return a new run of `project` on snapshot `version`: checked, resolved, written to run.json.

    `machine`: where it will be trained, this one when None.
    """
    loaded_recipe = recipes.load_recipe(project)
    tracking.resolve_tracking(project)
    frozen = snapshot.load_snapshot(project, version)
    acknowledge.require_acknowledgement(project, frozen)
    machine = machine or hardware.detect_hardware()
    base = weights.resolve_weights(project.base_model_id, project.root)
    engine = engines.choose_engine(loaded_recipe, machine, base.folder)
    training_parts = view_training_rows(project, frozen, base, loaded_recipe)
    recipe, speaker = training_parts.writer.recipe, training_parts.writer.chat
    checks = preflight.run_preflight(
        preflight.PreflightInputs(
            project,
            training_parts.writer,
            training_parts.examples,
            training_parts.rows,
            training_parts.stages,
            base.folder,
            machine,
        )
    )
    plan = {
        "format": FORMAT,
        "sem": project.sem,
        "created_at": provenance.utc_now().isoformat(),
        "recipe": asdict(recipe),
        "engine": engine,
        "hardware": machine.as_json(),
        "tasks": {name: spec.as_json() for name, spec in project.tasks.items()},
        "task_hashes": {name: spec.fingerprint() for name, spec in project.tasks.items()},
        "snapshot": {"version": frozen.version, "sha256": frozen.sha256},
        **training_parts.facts,
        "base_model": pinned_base.describe_base(project.base_model_id, base),
        "renderer": speaker.fingerprint(),
        "counts": {
            **{stage.name: stage.rows.counts() for stage in training_parts.stages},
            "train": training_parts.rows.counts(),
            "val": training_parts.val.counts(),
        },
        "total_steps": sum(stage.steps(recipe) for stage in training_parts.stages),
        "preflight": [check.as_json() for check in checks],
        "source": provenance.read_git_commit(project.root),
        "packages": provenance.package_versions(),
        **({"sweep": sweep} if sweep else {}),
    }
    return _same(project, plan) or run.create_run(project, plan, provenance.utc_now())


def view_training_rows(
    project: Project, frozen: Snapshot, base: weights.Weights, recipe: Recipe
) -> TrainingData:
    """Return what a run of `recipe` on `frozen` and `base` would be trained on."""
    speaker = chat.load_chat(base.folder, recipe.renderer)
    training_parts = parts.load_parts(project, frozen, project.tasks, speaker, recipe)
    data.check_trainable(training_parts.rows, f"snapshot v{frozen.version}, train")
    return training_parts


def _same(project: Project, plan: dict[str, Any]) -> Run | None:
    """Return the newest run prepared with the very same plan: preparing twice makes one run."""
    for path in sorted(project.adapters.glob("*/run.json"), reverse=True):
        try:
            old_plan = state.read_state_file(path, state.TrainedPlan)
        except SemError as error:  # of another run: it does not stand in the way of this one
            console.print_note(f"{error.message}: skipped")
            continue
        if all(old_plan.get(key) == plan[key] for key in plan if key not in VOLATILE):
            return Run(path.parent.name, path.parent)
    return None


def load_training_job(project: Project, target: Run) -> TrainingJob:
    """Return what `target`'s run.json says, loaded and verified.

    Raise SemError when the world has changed.
    """
    plan = target.plan()
    recipe = settings.build_settings(Recipe, plan["recipe"], f"{target.id}/run.json: recipe")
    frozen = snapshot.load_snapshot(project, plan["snapshot"]["version"])
    if frozen.sha256 != plan["snapshot"]["sha256"]:
        raise SemError(
            f"run {target.id}: snapshot v{frozen.version} is not the one it was prepared on",
            "prepare a new run with `fab train.prepare`",
        )
    base = pinned_base.resolve_pinned_base(plan["base_model"], project.root)
    speaker = chat.load_chat(base.folder, recipe.renderer)
    if speaker.fingerprint() != plan["renderer"]:
        raise SemError(
            f"run {target.id}: the chat renderer has changed",
            "prepare a new run with `fab train.prepare`",
        )
    tasks = run.tasks_of(plan)
    training_parts = parts.load_parts(project, frozen, tasks, speaker, recipe)
    for name, words in parts.FACTS.items():
        if training_parts.facts.get(name) != plan.get(name):
            raise SemError(
                f"run {target.id}: the {words} of snapshot v{frozen.version} have changed",
                "prepare a new run with `fab train.prepare`",
            )
    return TrainingJob(
        run=target,
        recipe=recipe,
        base=base.folder,
        dtype=plan["hardware"]["dtype"],
        device=plan["hardware"]["device"],
        chat=speaker,
        stages=training_parts.stages,
        tasks=tasks,
        slots=training_parts.writer.slots,
        val_examples=tuple(training_parts.val_examples),
        answering=project.settings("eval", EvalSettings),
        tracking=tracking.resolve_tracking(project),
    )


def plan_summary(plan: dict[str, Any]) -> list[tuple[str, object]]:
    """Return what a person wants to know of `plan` before training, as table rows."""
    counts = plan["counts"]["train"]
    return [
        ("base model", f"{plan['base_model']['base_model_id']} ({plan['hardware']['dtype']})"),
        ("engine", f"{plan['engine']} on {plan['hardware']['name']}"),
        ("snapshot", f"v{plan['snapshot']['version']}"),
        ("examples", f"{counts['examples']:,}"),
        ("left out: longer than max_tokens", f"{counts['too_long']:,}"),
        ("tokens an epoch", f"{counts['tokens']:,} ({counts['trained_tokens']:,} trained)"),
        (
            "examples a step",
            f"{plan['recipe']['effective_batch']} ({_tokens_a_step(plan):,} tokens)",
        ),
        ("optimizer steps", plan["total_steps"]),
    ]


def plan_doubts(plan: dict[str, Any]) -> list[str]:
    """Return what a person should think about before training `plan`, a line each."""
    steps, examples = plan["total_steps"], plan["counts"]["train"]["examples"]
    if steps >= FEW_STEPS:
        return []
    return [
        f"{steps} optimizer steps on {examples:,} examples are few: a model may not even learn "
        "the form; raise epochs, lower effective_batch, or raise learning_rate (train.yaml)"
    ]


def _tokens_a_step(plan: dict[str, Any]) -> int:
    counts = plan["counts"]["train"]
    return round(counts["tokens"] / counts["examples"] * plan["recipe"]["effective_batch"])


def train_prepared(project: Project, target: Run, resume: bool) -> dict[str, Any]:
    """Run the engine run.json names; write the manifest last. The final metrics."""
    if target.folder is None or target.is_finished:
        raise finished_run_error(target)
    path = target.folder.parent / f".{target.id}.lock"
    alone = files.lock_file(path, f"run {target.id}") if several.is_first() else nullcontext()
    recipe, machine = _means(target)
    _check_device(target, machine)
    device = target.plan()["hardware"]["device"]
    with alone, several.join_processes(device, recipe, target.folder):
        engine = engines.load_engine(target.plan()["engine"])
        memory.enforce_memory_limit(recipe, machine)
        result = memory.with_room(
            load_training_job(project, target), lambda job: engine(job, resume)
        )
        result["adapter_sha256"] = files.sha256_file(target.adapter / "adapter_model.safetensors")
        result["processes"] = several.process_count()
        if several.is_first():
            with run.hold_publish_lock(project.models):
                # A takedown may have come in between: the adapter has learnt rows that went.
                run.refuse_tainted(target.folder, f"run {target.id}")
                _seal(target, result)
    return result


def _check_device(target: Run, machine: Hardware) -> None:
    device = target.plan()["hardware"]["device"]
    if device == "cuda" and machine.device != "cuda":
        raise SemError(
            f"run {target.id} was prepared for a GPU, and this machine shows none",
            "train it on a host with `fab -H HOST train.run`, or prepare one here",
        )
    if device == "cpu" and machine.device == "cuda":
        console.print_note(
            f"run {target.id} was prepared for a CPU and trains on it, not on the GPU"
        )


def _means(target: Run) -> tuple[Recipe, Hardware]:
    recipe = settings.build_settings(
        Recipe, target.plan()["recipe"], f"{target.id}/run.json: recipe"
    )
    return recipe, hardware.detect_hardware()


def _seal(target: Run, result: dict[str, Any]) -> None:
    adapter = {path.name: files.sha256_file(path) for path in sorted(target.adapter.iterdir())}
    facts = {
        "run_id": target.id,
        "result": result,
        "adapter": adapter,
        "run_json_sha256": files.sha256_file(target.folder / "run.json"),
    }
    files.write_file(target.folder / manifest.NAME, jsonio.pretty_json(facts))
