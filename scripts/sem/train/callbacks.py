"""What happens while training: metrics.jsonl, a guard against NaN, tracking in W&B."""

import math
import os
from pathlib import Path
from typing import Any

from sem.core import console, files
from sem.core.errors import SemError


def metrics_log(path: Path) -> Any:
    """A callback that appends every logged value to PATH as one row, without repeating steps."""
    from transformers import TrainerCallback

    class MetricsLog(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            keep_until(path, state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            row = {k: _plain(v) for k, v in (logs or {}).items()}
            with files.appending(path) as file:
                files.append(file, {"step": state.global_step, **row})

    return MetricsLog()


def keep_until(path: Path, step: int) -> None:
    """Drop rows of PATH after STEP: a resumed run writes them again."""
    if path.exists():
        with files.appending(path):
            pass  # cuts a torn last line
        rows = [row for row in files.rows(path) if row["step"] <= step]
        files.write_rows(path, rows)


def finite_guard() -> Any:
    """A callback that stops on the first loss or gradient that is not a number.

    The stock trainer logs NaN as loss 0.0, goes on and exits 0.
    """
    from transformers import TrainerCallback

    class FiniteGuard(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name in ("loss", "grad_norm", "eval_loss"):
                value = (logs or {}).get(name)
                if value is not None and not math.isfinite(float(value)):
                    raise SemError(
                        f"step {state.global_step}: {name} is {value}",
                        "lower train.learning_rate; the last checkpoint is intact",
                    )

    return FiniteGuard()


def progress_bar() -> Any:
    """A callback that shows steps, time left and the last losses as one bar on stderr."""
    from transformers import TrainerCallback

    class ProgressBar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = console.bar()
            self.task = self.bar.add_task("training", total=state.max_steps)
            self.bar.start()
            self.bar.update(self.task, completed=state.global_step)
            self.shown: dict[str, str] = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(self.task, completed=state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name in ("loss", "eval_loss"):
                if name in (logs or {}):
                    self.shown[name] = f"{name} {float(logs[name]):.3f}"
            self.bar.update(self.task, description=" ".join(["training", *self.shown.values()]))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.stop()

    return ProgressBar()


def trackers() -> list[str]:
    """Where the trainer reports besides metrics.jsonl: W&B when a key is set."""
    if os.environ.get("SEM_WANDB") == "offline":
        os.environ["WANDB_MODE"] = "offline"
        return ["wandb"]
    return ["wandb"] if os.environ.get("WANDB_API_KEY") else []


def _plain(value: Any) -> Any:
    number = float(value) if hasattr(value, "__float__") else value
    if isinstance(number, float) and not math.isfinite(number):
        return str(number)
    return number
