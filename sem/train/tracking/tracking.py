"""Where a run is followed besides metrics.jsonl: W&B and MLflow, online, offline or not at all.

The environment decides, because nothing here changes a result: SEM_WANDB and SEM_MLFLOW say
online, offline or none; unset, WANDB_API_KEY and MLFLOW_TRACKING_URI say online.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.train.tracking.tracker import Tracker, Tracking, clean_tracked_text

MODES = ("online", "offline", "none")
# What each tracker has: a resumed run repeats no step.
LEDGER = "tracking.json"
# Rows in a row that a tracker may refuse before it is left alone.
PATIENCE = 3
INSTALL = "uv pip install -p .venv 'mlflow-skinny==3.17.2' -c requirements.lock"
# name: (mode, what makes online work, what installs it)
TRACKERS = {
    "wandb": ("SEM_WANDB", "WANDB_API_KEY", "./scripts/setup_env.sh"),
    "mlflow": ("SEM_MLFLOW", "MLFLOW_TRACKING_URI", INSTALL),
}


def resolve_tracking(project: Project) -> Tracking:
    """Return what the environment asks for.

    Raise SemError for an unknown mode or a missing package.
    """
    modes = tuple((name, _mode(name)) for name in TRACKERS)
    tracking = Tracking(modes, f"sem-{project.sem}", project.reports)
    for name in tracking.active:
        variable, _, install = TRACKERS[name]
        if not find_spec(name):
            raise SemError(
                f"{name} is enabled but not installed", f"run `{install}`, or {variable}=none"
            )
    return tracking


def _mode(name: str) -> str:
    variable, key = TRACKERS[name][:2]
    mode = os.environ.get(variable) or ("online" if os.environ.get(key) else "none")
    if mode not in MODES:
        raise SemError(f"{variable}={mode!r}", f"one of {', '.join(MODES)}")
    if mode == "online" and not os.environ.get(key):
        raise SemError(f"{variable}=online without {key}", f"set {key}, or {variable}=offline")
    return mode


def tracked_facts(run: Run) -> dict[str, Any]:
    """Return what a tracker is told of `run`.

    Nothing of its machine's paths, arguments or environment.
    """
    plan = run.plan()
    base = plan["base_model"]
    names = (
        "sem",
        "recipe",
        "engine",
        "hardware",
        "snapshot",
        "task_hashes",
        "counts",
        "total_steps",
        "packages",
        "sweep",
    )
    return {
        "run": run.id,
        **{name: plan[name] for name in names if name in plan},
        "base_model": Path(base["base_model_id"]).name,
        "base_revision": base.get("revision"),
        "git_commit": plan["source"]["commit"],
        "git_dirty": plan["source"]["dirty"],
    }


@contextmanager
def open_trackers(run: Run, where: Tracking) -> Iterator["OpenTrackers"]:
    """The trackers of `run`, open as long as this is; of several processes the first has them."""
    from sem.train.tracking import trackers

    active = {} if int(os.environ.get("RANK", "0")) else where.active
    active_trackers = {
        name: trackers.MAKERS[name](where, run.id, mode) for name, mode in active.items()
    }
    follower = OpenTrackers(active_trackers, (run.folder or Path()) / LEDGER)
    follower.open(tracked_facts(run) if active_trackers else {})
    try:
        yield follower
    except BaseException:
        follower.close(False)
        raise
    follower.close(True)


class OpenTrackers:
    """Open trackers and what each has; one that fails is said once, counted, and stops nothing."""

    def __init__(self, trackers: dict[str, Tracker], ledger: Path) -> None:
        self.trackers, self.ledger = trackers, ledger
        self.had = files.read_object(ledger) if trackers and ledger.exists() else {}
        self.failed = dict.fromkeys(trackers, 0)
        self.missing = dict.fromkeys(trackers, 0)

    def open(self, facts: Mapping[str, Any]) -> None:
        """Begin, or go on with the same run there."""
        for name in list(self.trackers):
            if not self._tried(name, "open", facts):
                self.failed[name] = PATIENCE

    def row(self, step: int, values: Mapping[str, Any]) -> None:
        """Send the numbers of `values` at `step` to every tracker that does not have them."""
        numbers = {k: float(v) for k, v in values.items() if _is_number(v)}
        for name in self.trackers:
            new = self._news(name, step, numbers)
            if not new:
                continue
            # Noted first: a kill in between loses one row there, and repeats none.
            self._note(name, step, new)
            self.missing[name] += 1
            if self.failed[name] < PATIENCE and self._tried(name, "log", step, new):
                self.missing[name] -= 1
                self.failed[name] = 0

    def close(self, is_good: bool) -> None:
        """End, and say what did not arrive."""
        for name in self.trackers:
            if self.failed[name] < PATIENCE or not self.missing[name]:
                self._tried(name, "close", is_good)
            if self.missing[name]:
                console.print_note(
                    f"{name}: {self.missing[name]} rows not logged; metrics.jsonl has them all"
                )

    def callback(self, stage: str, offset: int) -> Any:
        """Return a trainer's callback that sends what `stage` logs.

        Its steps count from `offset`.
        """
        from transformers import TrainerCallback

        send = self.row

        class Sender(TrainerCallback):
            def on_log(
                self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any
            ) -> None:
                values = {f"{stage}/{name}": value for name, value in (logs or {}).items()}
                send(offset + state.global_step, values)

        return Sender()

    def _news(self, name: str, step: int, values: Mapping[str, float]) -> dict[str, float]:
        had = self.had.get(name, {"step": -1, "names": []})
        if step < had["step"]:
            return {}
        names = had["names"] if step == had["step"] else ()
        return {key: value for key, value in values.items() if key not in names}

    def _note(self, name: str, step: int, values: Mapping[str, float]) -> None:
        had = self.had.get(name, {"step": -1, "names": []})
        names = had["names"] if had["step"] == step else []
        self.had[name] = {"step": step, "names": sorted({*names, *values})}
        files.write_file(self.ledger, jsonio.pretty_json(self.had))

    def _tried(self, name: str, verb: str, *values: Any) -> bool:
        try:
            getattr(self.trackers[name], verb)(*values)
        except Exception as error:  # each library has its own, and none may stop training
            if not self.failed[name]:
                message = f"{type(error).__name__}: {clean_tracked_text(str(error))}"
                console.print_note(f"{name}: {verb}: {message}; training goes on")
            self.failed[name] += 1
            return False
        return True


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
