"""Which points of a space are tried next: all of a grid, or Optuna's TPE; kept in a journal.

The journal is a file of lines, so that a killed search goes on: a point that was under way is
asked again, and its runs go on from their checkpoints.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sem.core import files
from sem.core.errors import SemError

Value = bool | int | float | str | None
Point = dict[str, Value]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `log`: every order of magnitude alike."""

    low: float
    high: float
    log: bool = False
    whole: bool = False  # integers only

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise SemError(
                f"range {self.low} to {self.high}", "write low < high, and 0 < low with log"
            )


METRICS = {"slot_f1": ("eval_slot_f1", True), "loss": ("eval_loss", False)}


@dataclass(frozen=True)
class Sweep:
    """sweep.yaml: what is tried, with which seeds, and what decides."""

    # Keys of train.yaml, as lora.rank.
    space: dict[str, list[Value] | Range]
    method: Literal["grid", "tpe"] = "grid"
    # tpe: how many are tried; grid: the most it may hold.
    points: int = 30
    # Every point is trained with each: their spread is shown.
    seeds: tuple[int, ...] = (42, 43)
    # On val, at the step that is kept.
    metric: Literal["slot_f1", "loss"] = "slot_f1"
    # a point whose first seed is worse than the median gets no other seed.
    prune: bool = False
    # Of tpe, not of training.
    search_seed: int = 0

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < 2 or len(set(self.seeds)) != len(self.seeds):
            raise SemError(f"seeds {list(self.seeds)}", "name two or more: one has no spread")
        if not self.space or not all(self.space.values()):
            raise SemError("space: nothing to try", "write keys, as `learning_rate: [1e-4, 2e-4]`")
        for key in self.space:
            if key == "seed" or key.startswith("checks."):
                raise SemError(f"space: {key} cannot be searched", "leave it out")

    @property
    def greater_is_better(self) -> bool:
        return METRICS[self.metric][1]

    def grid(self) -> list[Point]:
        """Return every point of the grid, in the order of the file."""
        ranges = [key for key, values in self.space.items() if isinstance(values, Range)]
        if ranges:
            raise SemError(f"space.{ranges[0]}: a range in a grid", "list values, or method: tpe")
        points = [
            dict(zip(self.space, values, strict=True))
            for values in itertools.product(*self.space.values())
        ]
        if len(points) > self.points:
            raise SemError(
                f"the grid has {len(points)} points, points allows {self.points}",
                "list fewer values, or raise points",
            )
        return points

    def corners(self) -> list[Point]:
        """Points that hold every listed value and every bound at least once."""
        ends = [[v.low, v.high] if isinstance(v, Range) else v for v in self.space.values()]
        most = max(map(len, ends))
        return [
            {
                key: _typed(self.space[key], end[min(at, len(end) - 1)])
                for key, end in zip(self.space, ends, strict=True)
            }
            for at in range(most)
        ]


class PointTrial:
    """One point under way."""

    def __init__(self, study: Any, trial: Any) -> None:
        self.study, self.trial, self.point = study, trial, dict(trial.params)

    def is_hopeless(self, first: float) -> bool:
        """Return whether `first`, the value of the first seed, is worse than the median of first
        seeds.
        """
        self.trial.report(first, 0)
        return bool(self.trial.should_prune())

    def tell(self, value: float | None, state: str) -> None:
        """Write down `value`, and `state`: complete, pruned or failed."""
        import optuna

        states = optuna.trial.TrialState
        self.trial.set_user_attr("state", state)
        if state == "complete":
            self.study.tell(self.trial, value)
        else:
            ended = states.PRUNED if state == "pruned" else states.FAIL
            self.study.tell(self.trial, state=ended)


def propose_points(sweep: Sweep, journal: Path) -> Iterator[PointTrial]:
    """Yield the points still to be tried, one after the other; each is told before the next."""
    import optuna

    study = _study(sweep, journal)
    open_points = _closed(study)
    _enqueue(study, sweep.grid() if sweep.method == "grid" else open_points)
    while _waiting(study) or (sweep.method == "tpe" and len(_told(study)) < sweep.points):
        # A seed for each point: one sampler's state would not outlive a kill.
        study.sampler = optuna.samplers.TPESampler(seed=sweep.search_seed + len(_told(study)))
        yield PointTrial(study, study.ask(_distributions(sweep)))


def _study(sweep: Sweep, journal: Path) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # The folder is locked by us: a lock that is still there, or half a line, is a killed writer's.
    Path(f"{journal}.lock").unlink(missing_ok=True)
    with files.open_for_append(journal):
        pass
    backend = JournalFileBackend(str(journal), JournalFileOpenLock(str(journal)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3) if sweep.prune else None
    return optuna.create_study(
        storage=JournalStorage(backend),
        study_name="sweep",
        direction="maximize" if sweep.greater_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=sweep.search_seed),
        pruner=pruner or optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def _closed(study: Any) -> list[Point]:
    """Return the points that a killed search left under way; their trials are closed."""
    import optuna

    states, points = optuna.trial.TrialState, []
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
        if point := trial.system_attrs.get("fixed_params") or dict(trial.params):
            points.append(point)
    return points


def _enqueue(study: Any, points: list[Point]) -> None:
    """Ask for each of `points` that has not been tried to its end and is not asked for yet."""
    old_points = [*_told(study), *_waiting(study)]
    for point in points:
        if point not in old_points:
            study.enqueue_trial(point)


def _waiting(study: Any) -> list[Point]:
    import optuna

    states = (optuna.trial.TrialState.WAITING,)
    return [trial.system_attrs["fixed_params"] for trial in study.get_trials(states=states)]


def _told(study: Any) -> list[Point]:
    """Points that were tried to their end."""
    return [dict(t.params) for t in study.get_trials(deepcopy=False) if "state" in t.user_attrs]


def _distributions(sweep: Sweep) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution as Choice
    from optuna.distributions import FloatDistribution as Real
    from optuna.distributions import IntDistribution as Whole

    distributions: dict[str, Any] = {}
    for key, values in sweep.space.items():
        if not isinstance(values, Range):
            distributions[key] = Choice(tuple(values))
        elif values.whole:
            distributions[key] = Whole(int(values.low), int(values.high), log=values.log)
        else:
            distributions[key] = Real(values.low, values.high, log=values.log)
    return distributions


def _typed(values: Any, value: Any) -> Value:
    return int(value) if isinstance(values, Range) and values.whole else value
