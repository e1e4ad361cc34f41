"""TaskSpec: one task's contract, read strictly from YAML or JSON (format v1).

The root takes no other keys than the table in docs/formats.md. Slot levels live in the
free-form `rubric`, under `slots`, so that a v1 reader elsewhere still accepts the file.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, schema, settings, shape, slotspec
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.slotspec import LEVELS, THRESHOLDS, SlotFile, SlotSpec

__all__ = ["LEVELS", "THRESHOLDS", "SlotSpec", "TaskSpec", "load_taskspec"]

PLACEHOLDER = "{{input_text}}"


@dataclass(frozen=True)
class EvalSplit:
    """Shares of the parts; whole groups (domains) move together, chosen by `seed`."""

    strategy: str = "random"
    train_ratio: float = 0.8
    val_ratio: float = 0.1
    test_ratio: float = 0.1
    seed: int = 42


@dataclass(frozen=True)
class Demonstration:
    """One pair that shows the task; checked against io_schema."""

    input_text: str
    output_json: Any


@dataclass(frozen=True)
class TaskSpec:
    """One narrow job: a prompt in, a JSON value out."""

    task_id: str
    task_version: str
    base_model_id: str
    system_prompt: str
    instruction_template: str
    io_schema: dict[str, Any]
    rubric: dict[str, Any]
    eval_split: EvalSplit
    label_enums: dict[str, list[str]] = field(default_factory=dict)
    example: Demonstration | None = None

    def prompt(self, input_text: str) -> str:
        """Return the user's turn: the instruction with `input_text` put in once."""
        before, _, after = self.instruction_template.partition(PLACEHOLDER)
        return before + input_text + after

    def slots(
        self,
        specs: dict[str, Any] | None = None,
        where: str = "slot_specs",
        shared: SlotFile | None = None,
        language: str | None = None,
    ) -> dict[str, SlotSpec]:
        """Level of every field: the example's `specs`, the rubric, `shared`, the type's default.

        `language` is the example's: dates are read in it, where a slot names none.
        """
        named = self.rubric.get("slots", {}) | (specs or {})
        where = f"{where} of {self.task_id}"
        return slotspec.slotspecs_of_schema(self.io_schema, named, where, shared, language)

    def fingerprint(self) -> str:
        """sha256 over everything that changes what the model sees or how it is scored."""
        return files.sha256_json(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """This spec as `task_spec.json` in the package holds it."""
        document = {
            "task_id": self.task_id,
            "task_version": self.task_version,
            "base_model_id": self.base_model_id,
            "system_prompt": self.system_prompt,
            "instruction_template": self.instruction_template,
            "io_schema": self.io_schema,
            "label_enums": self.label_enums,
            "rubric": self.rubric,
            "eval_split": vars(self.eval_split),
        }
        if self.example:
            document["example"] = vars(self.example)
        return document


def load_taskspec(path: Path) -> TaskSpec:
    """Return the TaskSpec in `path` (.yaml, .yml or .json), checked.

    The SemError names what is wrong.
    """
    values = files.read_json(path) if path.suffix == ".json" else settings.read_yaml(path)
    if not isinstance(values, dict):
        raise SemError(f"{path}: holds no TaskSpec", "write its keys at the top level")
    spec = settings.build_settings(TaskSpec, _without_schema_key(values), str(path))
    _check_text(spec, values, path)
    _check_ratios(values.get("eval_split") or {}, spec.eval_split, path)
    schema.check_schema(spec.io_schema, f"{path}: io_schema")
    _check_fields(spec, path)
    _check_example(spec, path)
    return spec


def _without_schema_key(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "$schema"}


def _check_text(spec: TaskSpec, values: dict[str, Any], path: Path) -> None:
    for name in ("task_id", "base_model_id", "system_prompt", "instruction_template"):
        if not values[name].strip():
            raise SemError(f"{path}: {name} is empty", "write a text for it")
    # \Z and [0-9]: `$` would let "1.0.0\n" through, \d other scripts' digits.
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", spec.task_version):
        raise SemError(
            f"{path}: task_version {spec.task_version!r} is not MAJOR.MINOR.PATCH",
            "write three numbers, as 1.0.0",
        )
    count = spec.instruction_template.count(PLACEHOLDER)
    if count != 1:
        raise SemError(
            f"{path}: instruction_template holds {PLACEHOLDER} {count} times",
            "write it exactly once",
        )


def _check_ratios(written: dict[str, Any], split: EvalSplit, path: Path) -> None:
    names = [name for name in written if name.endswith("_ratio")]
    if split.strategy != "random":
        raise SemError(
            f"{path}: eval_split.strategy {split.strategy!r} is unknown", "write 'random'"
        )
    if names and len(names) != 3:
        raise SemError(f"{path}: eval_split names {len(names)} of 3 ratios", "give all or none")
    ratios = (split.train_ratio, split.val_ratio, split.test_ratio)
    if any(not 0 <= ratio <= 1 for ratio in ratios) or abs(sum(ratios) - 1) > 1e-6:
        raise SemError(f"{path}: eval_split ratios {ratios} do not add up to 1", "correct them")


def _check_fields(spec: TaskSpec, path: Path) -> None:
    fields = shape.schema_properties(spec.io_schema, spec.io_schema)
    slots = spec.rubric.get("slots", {})
    if not isinstance(slots, dict):
        raise SemError(f"{path}: rubric.slots is not a mapping", "write `field: {level: exact}`")
    for name in spec.label_enums:
        if not has_field(spec.io_schema, name):
            _refuse_field(f"{path}: label_enums names {name!r}", name, fields)
    leaves = slotspec.schema_leaves(spec.io_schema, slots)
    for name in slots:
        if name not in leaves:
            every = slotspec.schema_leaves(spec.io_schema)
            _refuse_field(f"{path}: rubric.slots names {name!r}", name, every)
    spec.slots(where=str(path))


def _refuse_field(what: str, name: str, names: Any) -> None:
    hint = suggest_nearest_name(name, names) if names else "io_schema declares no properties"
    raise SemError(f"{what}, which io_schema does not have", hint)


def has_field(io_schema: Any, name: str) -> bool:
    """Return whether `name` is a property anywhere in `io_schema`."""
    if isinstance(io_schema, dict):
        properties = io_schema.get("properties")
        if isinstance(properties, dict) and name in properties:
            return True
        return any(has_field(value, name) for value in io_schema.values())
    if isinstance(io_schema, list):
        return any(has_field(value, name) for value in io_schema)
    return False


def _check_example(spec: TaskSpec, path: Path) -> None:
    if spec.example is None:
        return
    problems = schema.schema_problems(spec.example.output_json, spec.io_schema)
    if problems:
        raise SemError(
            f"{path}: example.output_json breaks io_schema: {problems[0]}",
            "correct one of the two",
        )


def taught_text(value: jsonio.Json) -> str:
    """Return `value` as the model is taught to write it: canonical JSON on one line."""
    return jsonio.canonical_json(value)
