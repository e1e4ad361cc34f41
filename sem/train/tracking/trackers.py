"""W&B and MLflow told one row at a time, and nothing that they would gather by themselves."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sem.core import console
from sem.train.tracking.tracker import Tracker, Tracking, clean_tracked_text

# For a server that does not answer, at the beginning and at the end.
WAIT_S = 20

# W&B records argv, the program, stdout, the git remote, packages and the machine by default.
QUIET: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_executable": "python",
    "program": "sem",
    "program_abspath": "sem",
    "program_relpath": "sem",
    "host": "sem",
    "username": "sem",
    "silent": True,
    "symlink": False,
    "init_timeout": WAIT_S,
    "finish_timeout": WAIT_S,
    "x_graphql_retry_max": 2,
}


class Wandb:
    """A W&B run under this run's id; offline it lies below reports/SEM/wandb."""

    def __init__(self, where: Tracking, run_id: str, mode: str) -> None:
        self.where, self.run_id, self.mode = where, run_id, mode
        self.run: Any = None

    def open(self, facts: Mapping[str, Any]) -> None:
        import wandb

        # Its debug.log holds paths.
        logging.getLogger("wandb").setLevel(logging.WARNING)
        try:
            self.run = self._init(facts, self.mode)
        except wandb.errors.Error as error:
            if self.mode == "offline":
                raise
            console.print_note(
                f"wandb: {clean_tracked_text(str(error))}; "
                "it is kept offline: `wandb sync` sends it later"
            )
            self.run = self._init(facts, "offline")
        self.run.define_metric("step", hidden=True)
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        # A row of its own, with our step in it: W&B drops rows of a step that it has left.
        self.run.log({"step": step, **values})

    def close(self, is_good: bool) -> None:
        if self.run is not None:
            self.run.finish(exit_code=0 if is_good else 1)

    def _init(self, facts: Mapping[str, Any], mode: str) -> Any:
        import wandb

        self.where.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or self.where.project,
            id=self.run_id,
            name=self.run_id,
            dir=str(self.where.folder),
            config=dict(facts),
            settings=wandb.Settings(
                mode=mode, resume="allow" if mode == "online" else None, **QUIET
            ),
        )


class Mlflow:
    """An MLflow run found by its tag; offline a plain file store at reports/SEM/mlflow."""

    def __init__(self, where: Tracking, run_id: str, mode: str) -> None:
        self.where, self.run_id, self.mode = where, run_id, mode
        self.client: Any = None
        self.id = ""

    def open(self, facts: Mapping[str, Any]) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(WAIT_S))
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(tracking_uri=self._place())
        experiment = self._experiment()
        runs = self.client.search_runs([experiment], f"tags.`sem.run` = '{self.run_id}'")
        if runs:
            self.id = runs[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            return
        tags = {"sem.run": self.run_id, "sem.git_commit": str(facts["git_commit"])}
        tags["sem.snapshot"] = facts["snapshot"]["sha256"]
        run = self.client.create_run(experiment, tags=tags, run_name=self.run_id)
        self.id = run.info.run_id
        params = [Param(name, str(value)[:6000]) for name, value in flatten_values(facts)]
        # What one request may hold.
        for start in range(0, len(params), 100):
            self.client.log_batch(self.id, params=params[start : start + 100])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=rows)

    def close(self, is_good: bool) -> None:
        if self.id:
            self.client.set_terminated(self.id, "FINISHED" if is_good else "FAILED")

    def _place(self) -> str:
        if self.mode == "online":
            return os.environ["MLFLOW_TRACKING_URI"]
        folder = self.where.folder / "mlflow"
        # Or it makes a default experiment with a path.
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve().as_uri()

    def _experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(self.where.project)
        if experiment is not None:
            return str(experiment.experiment_id)
        # No artifact is sent; a place for them would be a path of this machine.
        place = "mlflow-artifacts:/" if self.mode == "offline" else None
        return str(self.client.create_experiment(self.where.project, place))


MAKERS: dict[str, Callable[[Tracking, str, str], Tracker]] = {"wandb": Wandb, "mlflow": Mlflow}


def flatten_values(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of `values` under dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten_values(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
