"""Changes to the recipe of a run that has begun: those that are sound are made, others refused.

Sound is what leaves the meaning of every step already taken as it was: how far to go, how fast
from here on, what is written and when, how much memory is used. The rate schedule is a function
of the whole length, so a longer run continues on the longer run's curve, not on its own.
"""

import copy
from collections.abc import Sequence
from typing import Any

from sem.core import files, jsonio, provenance, settings
from sem.core.errors import SemError
from sem.core.run import Run, finished_run_error
from sem.train.engine import checkpoints
from sem.train.recipe import Recipe
from sem.train.rows.stages import PREFERENCE

SOUND = (
    "epochs",
    "max_steps",
    "learning_rate",
    "weight_decay",
    "micro_batch",
    "gradient_checkpointing",
    "checkpoint_steps",
    "keep_checkpoints",
    "log_steps",
    "patience",
)


def apply_updates(target: Run, changes: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """Write `changes` (`train.KEY=VALUE`) into the run.json of `target`.

    Return (key, before, after) for each.

    SemError, and nothing written, when one is not sound or the run is finished.
    """
    if not changes:
        return []
    if target.folder is None or target.is_finished:
        raise finished_run_error(target)
    with files.lock_file(target.folder.parent / f".{target.id}.lock", f"run {target.id}"):
        plan = target.plan()
        recipe = copy.deepcopy(plan["recipe"])
        changed = []
        for change in changes:
            key = settings.apply_override(recipe, _key(change))
            before, after = _at(plan["recipe"], key), _at(recipe, key)
            if before != after:
                _check(target, key)
                changed.append((key, before, after))
        settings.build_settings(Recipe, recipe, f"{target.id}/run.json: recipe")
        entry = {
            "at": provenance.utc_now().isoformat(),
            "after_step": _step(target),
            "set": {key: after for key, _, after in changed},
        }
        if changed:
            plan |= {"recipe": recipe, "updates": [*plan.get("updates", []), entry]}
            files.write_file(target.folder / "run.json", jsonio.pretty_json(plan))
    return changed


def _key(change: str) -> str:
    if not change.startswith("train."):
        raise SemError(
            f"--set {change!r}: not a key of train.yaml", "a resumed run takes train.KEY=VALUE"
        )
    return change.removeprefix("train.")


def _check(target: Run, key: str) -> None:
    if key in SOUND:
        return
    begun = target.folder is not None and (target.folder / PREFERENCE).exists()
    if key.startswith(f"{PREFERENCE}.") and key != f"{PREFERENCE}.method" and not begun:
        return
    raise SemError(
        f"train.{key} cannot change in a run that has begun",
        f"prepare a new run; a begun one takes {', '.join(SOUND)}",
    )


def _at(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None  # type: ignore[assignment]
    return values


def _step(target: Run) -> int:
    """Return the step of the newest complete checkpoint of the examples, 0 without one."""
    newest = checkpoints.newest_checkpoint(target.folder) if target.folder else None
    return int(newest.name.split("-")[1]) if newest else 0
