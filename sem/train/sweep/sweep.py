"""A small search over keys of the recipe, chosen on val, with the spread over seeds shown.

Every point is trained with every seed, each an ordinary run, so that a killed sweep goes on.
Rows of test are never read here.
"""

import gc
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sem.core import console, files, jsonio, manifest, state
from sem.core.errors import Busy, SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.dataset.split import snapshot
from sem.train import recipe
from sem.train.engine.trainer import NotFinite
from sem.train.recipe import Recipe
from sem.train.run import memory, plan
from sem.train.sweep import search, sweep_points
from sem.train.sweep.search import METRICS, Point, PointTrial, Sweep
from sem.train.sweep.sweep_points import PointResult, PointRun, SweepTable


class UntrainablePointError(Exception):
    """One point cannot be trained here; another may."""


def run_sweep(project: Project, version: int | None) -> tuple[SweepTable, Path]:
    """Try what is still to be tried of `project`'s sweep.yaml; the table and its folder."""
    sweep = load_sweep(project)
    frozen = snapshot.load_snapshot(project, version)
    facts = {"version": frozen.version, "sha256": frozen.sha256}
    name = _name(project, sweep, facts)
    folder = project.adapters.parent / "sweeps" / name
    with files.lock_file(folder / ".lock", f"sweep {name}"):
        outcomes = _known(folder)
        for trial in search.propose_points(sweep, folder / "journal.log"):
            console.print_note(
                f"sweep {name}, point {len(outcomes) + 1}: {sweep_points.point_words(trial.point)}"
            )
            outcome = _point(project, trial, sweep, frozen.version, name)
            outcomes = [
                *(earlier for earlier in outcomes if earlier.point != outcome.point),
                outcome,
            ]
            files.write_rows(folder / "points.jsonl", [asdict(outcome) for outcome in outcomes])
            trial.tell(outcome.mean if outcome.state == "complete" else None, outcome.state)
        table = SweepTable(project.sem, name, sweep, facts, tuple(outcomes))
        files.write_file(folder / "sweep.json", jsonio.pretty_json(sweep_points.sweep_json(table)))
        if table.complete:
            files.write_file(
                folder / "best.yaml", sweep_points.point_yaml(table.complete[0].point)
            )
    return table, folder


def load_sweep(project: Project) -> Sweep:
    """sweep.yaml; the SemError names the key or value that train.yaml would refuse."""
    if not (project.configs / "sweep.yaml").exists():
        raise SemError(
            f"{project.configs / 'sweep.yaml'}: no such file",
            "write one: `space: {learning_rate: [1e-4, 2e-4]}`",
        )
    sweep = project.settings("sweep", Sweep)
    for point in sweep.corners():
        recipe.load_recipe(project_at_point(project, point, 0))
    return sweep


def project_at_point(project: Project, point: Point, seed: int) -> Project:
    """Return `project` with the recipe of `point` and `seed`, as `--set` would say it."""
    overrides = [f"train.{key}={jsonio.canonical_json(value)}" for key, value in point.items()]
    return replace(project, overrides=(*project.overrides, *overrides, f"train.seed={seed}"))


def _name(project: Project, sweep: Sweep, facts: dict[str, object]) -> str:
    """Return what makes a sweep another one: all but how many points tpe tries."""
    tasks = {name: spec.fingerprint() for name, spec in project.tasks.items()}
    marks = [asdict(replace(sweep, points=1)), asdict(project.settings("train", Recipe))]
    return files.sha256_json([*marks, facts, tasks])[:10]


def _known(folder: Path) -> list[PointResult]:
    path = folder / "points.jsonl"
    return sweep_points.from_rows(list(files.read_rows(path))) if path.exists() else []


def _point(
    project: Project, trial: PointTrial, sweep: Sweep, version: int, name: str
) -> PointResult:
    runs: list[PointRun] = []
    try:
        for seed in sweep.seeds:
            run = _trained(project_at_point(project, trial.point, seed), version, name)
            runs.append(PointRun(run.id, seed, read_run_metric(run, sweep.metric), _seconds(run)))
            if len(runs) == 1 and trial.is_hopeless(runs[0].value):
                return PointResult(trial.point, "pruned", tuple(runs), "its first seed")
    except UntrainablePointError as unfit:
        console.print_note(f"{sweep_points.point_words(trial.point)}: left out: {unfit}")
        return PointResult(trial.point, "failed", tuple(runs), str(unfit))
    return PointResult(trial.point, "complete", tuple(runs))


def _trained(project: Project, version: int, name: str) -> Run:
    """Return the finished run of `project`'s recipe.

    Raise UntrainablePointError when the recipe itself is what stops it.
    """
    try:
        run = plan.prepare_training(project, version, sweep=name)
    except Busy:
        raise
    except SemError as error:  # the preflight of this point
        raise UntrainablePointError(error.message) from error
    if run.is_finished:
        return run
    try:
        plan.train_prepared(project, run, resume=False)
    except NotFinite as error:
        raise UntrainablePointError(error.message) from error
    except SemError as error:
        if error.__cause__ is None or not memory.is_out_of_memory(error.__cause__):
            raise
        raise UntrainablePointError(error.message) from error
    finally:
        gc.collect()
    return run


def read_run_metric(run: Run, metric: str) -> float:
    """Return `metric` of `run` on val at the step whose weights were kept."""
    key, folder = METRICS[metric][0], _folder(run)
    logged = state.read_state_rows(folder / "metrics.jsonl", state.LoggedStep)
    rows = [row for row in logged if key in row]
    if not rows:
        raise SemError(
            f"run {run.id}: no {key} in metrics.jsonl",
            "lower train.checkpoint_steps, or set train.val_answers above 0",
        )
    last = [row for row in rows if row["stage"] == rows[-1]["stage"]]
    kept_step = manifest.read_manifest(folder, state.FinishedRun)["result"].get("kept_step")
    at_kept: Sequence[dict[str, float]] = [row for row in last if row["step"] == kept_step]
    return float((at_kept or last)[-1][key])


def _seconds(run: Run) -> float:
    result = manifest.read_manifest(_folder(run), state.FinishedRun)["result"]
    return float(sum(stage.get("train_runtime", 0) for stage in result.get("stages", {}).values()))


def _folder(run: Run) -> Path:
    if run.folder is None:
        raise ValueError("the run 'base' is not a run of a sweep")
    return run.folder
