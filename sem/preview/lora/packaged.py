"""A package as what both trainings of examples start from: checked whole before it is used.

Of a package only the weights are taken, by name and shape, into the sem's own base model: its
tokenizer, its turns and its config are compared and never loaded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, manifest, run, schema
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.lm.weights.weights import Weights
from sem.package.export.bundle import MANIFEST_SCHEMA
from sem.package.verify import verify
from sem.preview.linear.linear_models import refuse_code
from sem.train import recipe

HINT = "give a folder that `fab package.export` made of a run of this sem"
WEIGHTS, TOKENIZER = "model/model.safetensors", "model/tokenizer.json"
MOST_MANIFEST = 8 * 2**20
# The base model's bytes: float32 of a base in eight bits.
MOST_TIMES = 4
TEXT = {"type": "string"}
SHAPE: dict[str, Any] = {
    "properties": {
        "lineage": {
            "required": ["renderer"],
            "properties": {
                "renderer": TEXT,
                "tasks": {"type": "object", "additionalProperties": TEXT},
                "base_model": {
                    "type": "object",
                    "required": ["base_model_id", "revision"],
                    "properties": {"base_model_id": TEXT, "revision": TEXT},
                },
                "snapshot": {
                    "type": "object",
                    "required": ["version", "sha256"],
                    "properties": {"version": {"type": "integer", "minimum": 1}, "sha256": TEXT},
                },
            },
        },
        "files": {
            "required": [WEIGHTS],
            "additionalProperties": {
                "type": "object",
                "required": ["bytes", "sha256"],
                "properties": {"bytes": {"type": "integer"}, "sha256": TEXT},
            },
        },
    },
}


@dataclass(frozen=True)
class StartPackage:
    """A package that fits the sem, every file as its manifest says."""

    folder: Path
    run_id: str
    sha256: str  # of its manifest
    # What it has learnt from.
    learnt: Snapshot

    def put_in(self, model: Any) -> None:
        """Give `model`, the sem's base model, the package's weights.

        Raise SemError unless all fit.
        """
        from safetensors import safe_open

        with safe_open(self.folder / WEIGHTS, framework="pt") as tensors:
            weights = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        models.set_weights(model, weights, self.folder)


def read_start_package(project: Project, folder: Path, base: Weights) -> StartPackage:
    """Return the package in `folder`.

    Raise SemError unless it is whole and of `project`'s tasks and model `base`.
    """
    _check_kind(folder)
    facts = _facts(folder)
    _check_files(folder, base)
    _check_fit(project, folder, facts, base)
    faults = verify.model_faults(folder)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise SemError(f"{folder}: {faults[0]}{more}", "export it again: `fab package.export`")
    named = files.sha256_file(folder / manifest.NAME)
    return StartPackage(folder, facts["run_id"], named, _learnt(project, folder, facts))


def _check_kind(folder: Path) -> None:
    if not folder.exists():
        raise SemError(f"{folder}: no such package", HINT)
    if folder.is_dir():
        has_manifest = (folder / manifest.NAME).exists()
        if not has_manifest and any(folder.rglob("*.gguf")):
            raise SemError(f"{folder}: holds GGUF only, which cannot be trained", HINT)
        return
    if folder.is_file():
        with folder.open("rb") as file:
            if file.read(4) == b"GGUF":
                raise SemError(f"{folder}: a GGUF file, which cannot be trained", HINT)
    refuse_code(folder, HINT)
    raise SemError(f"{folder}: a file, not a package", HINT)


def _facts(folder: Path) -> dict[str, Any]:
    """Return the manifest, which fits its schema."""
    path = folder / manifest.NAME
    if path.exists() and (path.is_symlink() or not path.is_file()):
        raise SemError(f"{path}: not a plain file", HINT)
    if path.exists() and path.stat().st_size > MOST_MANIFEST:
        raise SemError(f"{path}: larger than {MOST_MANIFEST // 2**20} MiB", HINT)
    facts = manifest.read_manifest(folder)
    wrong = schema.schema_problems(facts, {"allOf": [MANIFEST_SCHEMA, SHAPE]})
    if wrong:
        raise SemError(f"{path}: {wrong[0]}", HINT)
    return facts


def _check_files(folder: Path, base: Weights) -> None:
    """Raise SemError for what must not be opened at all."""
    if (folder / run.TAINTED_JSON).exists():
        raise SemError(
            f"{folder}: tainted: a takedown removed rows it was trained on",
            "package a run that was trained after that takedown",
        )
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SemError(f"{path}: not a plain file", HINT)
    most = MOST_TIMES * sum(path.stat().st_size for path in base.folder.glob("*.safetensors"))
    weights = folder / WEIGHTS
    if weights.exists() and weights.stat().st_size > most:
        raise SemError(f"{weights}: larger than {MOST_TIMES} times the base model", HINT)


def _check_fit(project: Project, folder: Path, facts: dict[str, Any], base: Weights) -> None:
    """Raise SemError when it was trained on another model, for another task, or in other words."""
    lineage, base_model = facts["lineage"], facts["lineage"]["base_model"]
    if base_model["revision"] != base.revision:
        raise SemError(
            f"{folder}: made of base model {base_model['base_model_id']} at "
            f"{base_model['revision']}, the sem's is {base.base_model_id} at {base.revision}",
            HINT,
        )
    for name, spec in sorted(project.tasks.items()):
        if lineage["tasks"].get(name) != spec.fingerprint():
            raise SemError(
                f"{folder}: task {name} differs from the one the package was trained on",
                "train and export again, or restore the task's file",
            )
    speaker = chat.load_chat(base.folder, recipe.load_recipe(project).renderer)
    if lineage["renderer"] != speaker.fingerprint():
        raise SemError(f"{folder}: its prompts use different turns from train.yaml's", HINT)
    if facts["files"].get(TOKENIZER, {}).get("sha256") != _digest(base.folder):
        raise SemError(f"{folder}: its tokenizer is not that of the base model", HINT)


def _digest(base: Path) -> str | None:
    path = base / Path(TOKENIZER).name
    return files.sha256_file(path) if path.exists() else None


def _learnt(project: Project, folder: Path, facts: dict[str, Any]) -> Snapshot:
    """Return the snapshot that the package has learnt from.

    Raise SemError where it is not here.
    """
    entry = facts["lineage"]["snapshot"]
    try:
        frozen = snapshot.load_snapshot(project, entry["version"])
    except SemError as error:
        raise _unknown(folder, entry["version"]) from error
    if frozen.sha256 != entry["sha256"]:
        raise _unknown(folder, entry["version"])
    return frozen


def _unknown(folder: Path, version: int) -> SemError:
    return SemError(
        f"{folder}: its snapshot v{version} is not here, so it may have been trained "
        "on the val rows",
        "give a package that was trained on a snapshot of this sem",
    )
