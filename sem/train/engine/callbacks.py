"""What happens while training: metrics.jsonl, the bar, a request to stop."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sem.core import console, files, state
from sem.core.errors import SemError
from sem.train.engine import checkpoints, several


class Preempted(SemError):
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
            with files.appending(path) as file:
                files.append_row(file, {"stage": stage, "step": state.global_step, **row})

    return MetricsLog()


def keep_until(path: Path, stage: str, step: int) -> None:
    """Drop rows of `stage` after `step` from `path`: a resumed run writes them again."""
    if path.exists():
        with files.appending(path):
            # Cuts a torn last line.
            pass
        logged = state.read_state_rows(path, state.LoggedStep)
        rows = [row for row in logged if row["stage"] != stage or row["step"] <= step]
        files.write_rows(path, rows)


def rebase(folder: Path) -> Any:
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
                console.note(
                    f"{best.name}, the best so far, is gone: the best from here on counts"
                )
                state.best_model_checkpoint = state.best_metric = state.best_global_step = None

    return Rebase()


class Stop:
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
        console.note("asked to stop: a checkpoint is written after this step")

    def callback(self) -> Any:
        """Return a callback that writes a checkpoint and stops at the end of the step."""
        from transformers import TrainerCallback

        stop = self

        class Stopper(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
                stop.asked = several.largest(stop.asked or 0) or None
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
            raise Preempted(
                f"stopped at step {step} of {steps} by signal {self.asked}",
                "a checkpoint is written: go on with `fab train.resume`",
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
