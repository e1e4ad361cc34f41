"""Run: one training attempt, a folder that is complete when its manifest is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest, settings, state
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.project import Project
from sem.core.taskspec import TaskSpec

# Taint: runs and packages whose data were taken down; nobody may promote, package or serve them.
#
# `tainted.json` lies beside the manifest of a run or package, so that it travels with a copy.

TAINTED_JSON = "tainted.json"
PUBLISH_WAIT_S = 30.0


@contextmanager
def hold_publish_lock(models: Path) -> Iterator[None]:
    """Hold the moment in which something of the sem in `models` is marked, or becomes public.

    Whoever publishes (a package, a promotion, a finished run) asks `refuse` again inside, so that
    a takedown that began meanwhile either is seen or sees what was published.
    """
    with files.lock_file(models / ".publish.lock", f"a result of {models.name}", PUBLISH_WAIT_S):
        yield


def mark_tainted(folder: Path, takedown: str, at: str, facts: dict[str, Any]) -> None:
    """Mark the run or package in `folder`; an earlier takedown's mark stays and is added to."""
    marks = [m for m in read_taints(folder) if m["takedown"] != takedown]
    document = {
        "format": "tainted.v1",
        "marks": [*marks, {"takedown": takedown, "at": at, **facts}],
    }
    files.write_file(folder / TAINTED_JSON, jsonio.pretty_json(document))


def read_taints(folder: Path) -> list[state.Mark]:
    """Return the marks of `folder`, the oldest first; empty when it is clean."""
    path = folder / TAINTED_JSON
    return state.read_state_file(path, state.TaintMarks)["marks"] if path.exists() else []


def takedowns_of(folder: Path | None) -> tuple[str, ...]:
    """Return the takedowns that marked `folder`; `base` has no folder and is never marked."""
    return tuple(m["takedown"] for m in read_taints(folder)) if folder else ()


def refuse_tainted(folder: Path | None, what: str) -> None:
    """Raise SemError when `folder` is marked; `what` names it, as in `run 2026…`."""
    names = takedowns_of(folder)
    if names:
        raise SemError(
            f"{what} is tainted: takedown {', '.join(names)} removed rows it rests on",
            "train a new run on a snapshot cut after it: `fab train.prepare train.run`",
        )


BASE = "base"  # the untouched model
# The model being replaced: its answers are the references.
STRONG = "strong"


@dataclass(frozen=True)
class Run:
    """A run by id; `base` has no folder of its own."""

    id: str
    folder: Path | None

    @property
    def is_base(self) -> bool:
        return self.id == BASE

    @property
    def adapter(self) -> Path | None:
        """Return the folder of the trained adapter, None for `base`."""
        return self.folder / "adapter" if self.folder else None

    @property
    def is_finished(self) -> bool:
        return self.folder is None or (self.folder / manifest.NAME).exists()

    def plan(self) -> dict[str, Any]:
        """run.json: everything `train.prepare` resolved."""
        if self.folder is None:
            raise SemError("the run 'base' was never trained", "name a trained run with --run")
        # An optimizer's run rests on pairs, not on a snapshot.
        is_of_a_sem = self.folder.parent.name == "adapters"
        shape: type[Any] = state.TrainedPlan if is_of_a_sem else state.RunPlan
        return state.read_state_file(self.folder / "run.json", shape)


def create_run(project: Project, plan: dict[str, Any], at: datetime) -> Run:
    """Return a new run folder holding `plan`; its id is the time `at` and a hash of the plan."""
    run_id = f"{at:%Y%m%d-%H%M%S}-{files.sha256_json(plan)[:4]}"
    folder = project.adapters / run_id
    files.write_file(folder / "run.json", jsonio.pretty_json({"run_id": run_id, **plan}))
    return Run(run_id, folder)


def finished_run_error(run: Run) -> SemError:
    """Return what to say when `run`, which is to be trained, is finished."""
    return SemError(
        f"run {run.id} is finished",
        "prepare another with `fab train.prepare`; the same settings are this run again, so "
        "change one, as --set train.seed=2",
    )


def find_run(project: Project, run_id: str | None, finished: bool = True) -> Run:
    """Return the run called `run_id`, or the newest (`finished` ones only).

    Raise SemError when there is none.
    """
    if run_id == BASE:
        return Run(BASE, None)
    names = sorted(path.parent.name for path in project.adapters.glob("*/run.json"))
    if run_id is None:
        runs = [Run(name, project.adapters / name) for name in names]
        runs = [run for run in runs if run.is_finished or not finished]
        if not runs:
            state = "finished" if finished else "prepared"
            raise SemError(
                f"{project.sem}: no {state} run under {project.adapters}",
                "make one with `fab train.prepare train.run`",
            )
        return runs[-1]
    if run_id not in names:
        raise SemError(
            f"{project.sem}: no run {run_id!r}", suggest_nearest_name(run_id, [BASE, *names])
        )
    run = Run(run_id, project.adapters / run_id)
    if finished and not run.is_finished:
        raise SemError(
            f"run {run_id!r} is not finished", f"finish it with `fab train.resume --run {run_id}`"
        )
    return run


def tasks_of(plan: dict[str, Any]) -> dict[str, TaskSpec]:
    """Return the TaskSpecs a run was prepared with, not today's files."""
    return {
        n: settings.build_settings(TaskSpec, v, f"run.json: {n}") for n, v in plan["tasks"].items()
    }


# The promoted run: the one that serves. `ops/promote.py` decides which may.


def read_promotion(project: Project) -> state.Promoted | None:
    """Return what promoted.json says; None when no run was promoted."""
    return state.read_if_there(project.promoted, state.Promoted)


def promoted_run_id(project: Project) -> str:
    """Return the id of the promoted run.

    Raise SemError when there is none, or a takedown tainted it.
    """
    promotion = read_promotion(project)
    if promotion is None:
        raise SemError(f"{project.sem} has no promoted run", "name one with `fab ops.promote`")
    refuse_tainted(project.adapters / promotion["run"], f"promoted run {promotion['run']}")
    return str(promotion["run"])
