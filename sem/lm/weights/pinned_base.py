"""The base model a run names, at exactly the revision it was prepared on."""

from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.lm.weights import weights


def resolve_pinned_base(named: dict[str, Any], root: Path) -> weights.Weights:
    """Return the weights of `named` (`base_model` of run.json).

    Raise SemError when the revision differs.
    """
    base = weights.resolve_weights(named["base_model_id"], root)
    if base.revision != named["revision"]:
        raise SemError(
            f"base model {named['base_model_id']} is at {base.revision}, "
            f"the run was prepared on {named['revision']}",
            "restore that revision, or prepare a new run",
        )
    return base


def describe_base(base_model_id: str, base: weights.Weights) -> dict[str, Any]:
    """Return what run.json and the package record of `base`."""
    return {
        "base_model_id": base_model_id,
        "revision": base.revision,
        "precision_note": base.precision_note,
        "licence": base.licence,
    }
