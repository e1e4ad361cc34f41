"""train.prepare resolves everything into run.json; train.run is a function of that file."""

from dataclasses import asdict
from itertools import chain
from typing import Any

from sem.core import files, jsonio, manifest, provenance, run, settings
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.core.taskspec import TaskSpec
from sem.dataset import acknowledge, augment, snapshot
from sem.dataset.snapshot import Snapshot
from sem.lm import chat, hardware, pinned, weights
from sem.train import data
from sem.train.fit import Job, total_steps
from sem.train.recipe import Recipe

FORMAT = "run.v1"


def prepare(project: Project, version: int | None) -> Run:
    """A new run of PROJECT on snapshot VERSION: checked, resolved, written to run.json."""
    recipe = project.settings("train", Recipe)
    frozen = snapshot.load(project, version)
    acknowledge.require(project, frozen)
    machine = hardware.detect()
    base = weights.resolve(project.base_model_id, project.root)
    speaker = chat.load(base.folder)
    variants, rows, val = _parts(project, frozen, project.tasks, speaker, recipe)
    data.check(rows, f"snapshot v{frozen.version}, train")
    plan = {
        "format": FORMAT,
        "sem": project.sem,
        "created_at": provenance.now().isoformat(),
        "recipe": asdict(recipe),
        "engine": engine(recipe, machine),
        "hardware": machine.as_json(),
        "tasks": {name: spec.as_json() for name, spec in project.tasks.items()},
        "task_hashes": {name: spec.fingerprint() for name, spec in project.tasks.items()},
        "snapshot": {"version": frozen.version, "sha256": frozen.sha256},
        **({"augmented": variants} if variants else {}),
        "base_model": pinned.describe(project.base_model_id, base),
        "renderer": speaker.fingerprint(),
        "counts": {"train": rows.counts(), "val": val.counts()},
        "total_steps": total_steps(recipe, len(rows.kept)),
        "source": provenance.commit(project.root),
        "packages": provenance.versions(),
    }
    return _same(project, plan) or run.create(project, plan, provenance.now())


def _same(project: Project, plan: dict[str, Any]) -> Run | None:
    """The newest run prepared with the very same plan: preparing twice makes one run."""
    for path in sorted(project.adapters.glob("*/run.json"), reverse=True):
        known = files.read_json(path)
        if all(known.get(key) == plan[key] for key in plan if key not in ("created_at", "source")):
            return Run(path.parent.name, path.parent)
    return None


def job(project: Project, target: Run) -> Job:
    """What TARGET's run.json says, loaded and verified; SemError when the world has changed."""
    plan = target.plan()
    recipe = settings.build(Recipe, plan["recipe"], f"{target.id}/run.json: recipe")
    frozen = snapshot.load(project, plan["snapshot"]["version"])
    if frozen.sha256 != plan["snapshot"]["sha256"]:
        raise SemError(
            f"run {target.id}: snapshot v{frozen.version} is not the one it was prepared on",
            "prepare a new run with `fab train.prepare`",
        )
    base = pinned.resolve(plan["base_model"], project.root)
    speaker = chat.load(base.folder)
    if speaker.fingerprint() != plan["renderer"]:
        raise SemError(f"run {target.id}: the chat renderer has changed", "prepare a new run")
    variants, rows, val = _parts(project, frozen, run.tasks_of(plan), speaker, recipe)
    if variants != plan.get("augmented"):
        raise SemError(
            f"run {target.id}: the variants of snapshot v{frozen.version} have changed",
            "prepare a new run with `fab train.prepare`",
        )
    return Job(
        run=target,
        recipe=recipe,
        base=base.folder,
        dtype=plan["hardware"]["dtype"],
        device=plan["hardware"]["device"],
        chat=speaker,
        train=rows,
        val=val,
    )


def engine(recipe: Recipe, machine: hardware.Hardware) -> str:
    """The engine that trains: the recipe's own word, or unsloth on a GPU that has it."""
    from importlib.util import find_spec

    if recipe.engine != "auto":
        return recipe.engine
    return "unsloth" if machine.device == "cuda" and find_spec("unsloth") else "trl"


def _parts(
    project: Project,
    frozen: Snapshot,
    tasks: dict[str, TaskSpec],
    speaker: chat.Chat,
    recipe: Recipe,
) -> tuple[dict[str, Any] | None, data.Rows, data.Rows]:
    """What the variants are, where RECIPE asks for them; the rows of train and of val."""
    variants, examples = None, frozen.examples("train")
    if recipe.augmented:
        facts = augment.facts(project, frozen.version)
        variants = {"sha256": facts["sha256"], "rows": facts["rows"]}
        examples = chain(examples, augment.examples(project, frozen.version))
    rows = data.encode(examples, tasks, speaker, recipe.max_tokens)
    val = data.encode(frozen.examples("val"), tasks, speaker, recipe.max_tokens)
    return (
        variants,
        data.sample(rows, recipe.max_train_examples, recipe.seed),
        data.sample(val, recipe.val_examples, recipe.seed),
    )


def summary(plan: dict[str, Any]) -> list[tuple[str, object]]:
    """What a person wants to know of PLAN before training, as table rows."""
    counts = plan["counts"]["train"]
    return [
        ("base model", f"{plan['base_model']['base_model_id']} ({plan['hardware']['dtype']})"),
        ("engine", f"{plan['engine']} on {plan['hardware']['name']}"),
        ("snapshot", f"v{plan['snapshot']['version']}"),
        ("examples", f"{counts['examples']:,}"),
        ("left out: longer than max_tokens", f"{counts['too_long']:,}"),
        ("tokens an epoch", f"{counts['tokens']:,} ({counts['trained_tokens']:,} trained)"),
        ("optimizer steps", plan["total_steps"]),
    ]


def train(project: Project, target: Run, resume: bool) -> dict[str, Any]:
    """Run the engine run.json names; write the manifest last. The final metrics."""
    from sem.train import backend_trl, backend_unsloth

    if target.folder is None or target.is_finished:
        raise SemError(
            f"run {target.id} is finished", "prepare a new one with `fab train.prepare`"
        )
    engines = {"trl": backend_trl.train, "unsloth": backend_unsloth.train}
    with files.lock(target.folder.parent / f".{target.id}.lock", f"run {target.id}"):
        plan = target.plan()
        result = engines[plan["engine"]](job(project, target), resume)
        result["adapter_sha256"] = files.sha256(target.adapter / "adapter_model.safetensors")
        _seal(target, result)
    return result


def _seal(target: Run, result: dict[str, Any]) -> None:
    adapter = {path.name: files.sha256(path) for path in sorted(target.adapter.iterdir())}
    facts = {
        "run_id": target.id,
        "result": result,
        "adapter": adapter,
        "run_json_sha256": files.sha256(target.folder / "run.json"),
    }
    files.write(target.folder / manifest.NAME, jsonio.pretty(facts))
