"""SlotSpec: how one field of the output is compared; the same in cleaning, scoring and gating.

A field inside an object is addressed as `seller.name`, one of a list of objects as
`line_items[].price`. `configs/judge_slots.yaml` holds levels shared by all tasks; a TaskSpec's
`rubric.slots` and then an example's `slot_specs` win over it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sem.core import jsonio, locales, settings, shape
from sem.core.errors import SemError, suggest_nearest_name

LEVELS = ("exact", "substring", "numeric_tol", "set_match", "date_norm", "llm_similarity")
# The plan's pass thresholds per level (requirements, "Slot Similarity Levels").
THRESHOLDS = {
    "exact": 1.0,
    "substring": 0.8,
    "numeric_tol": 0.9,
    "set_match": 0.95,
    "date_norm": 0.9,
    "llm_similarity": 0.85,
}
# One score of an answer that costs something for every way to be wrong (requirements: "rubric must
# penalize invalid JSON, extra keys, and unsupported claims"); a TaskSpec's own wins over it.
SCORING = {
    "field_exact_match_weight": 0.5,
    "schema_validity_weight": 0.2,
    "arithmetic_checks_weight": 0.1,
    "no_extra_keys_weight": 0.1,
    "no_inventions_weight": 0.1,
}
# Objects nested deeper are compared whole; a recursive $ref ends there.
MAX_DEPTH = 6


@dataclass(frozen=True)
class SlotSpec:
    """How one field of the output is compared with its reference."""

    level: str = "exact"
    # Absolute, for numeric_tol, in `unit` where one is named.
    tolerance: float = 0.0
    # Share of the reference; the larger of the two tolerances counts.
    relative: float = 0.0
    # Currency, an ISO 4217 code, or kg, cm, min …: reads "€ 1.234,50".
    unit: str | None = None
    # "." or ",": decides "1.234", which is 1234 or 1.234.
    decimal_mark: str | None = None
    # Decides 03/04/2024; None: it names no day.
    day_first: bool | None = None
    # Of dates, as "hr"; None: the row's own.
    language: str | None = None
    # Score from which the slot passes; None: the level's own.
    threshold: float | None = None
    # The gate looks at critical slots first.
    critical: bool = False
    # Where the rule fails, the judge may have another opinion.
    arguable: bool = False

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise SemError(
                f"slot level {self.level!r} is unknown", suggest_nearest_name(self.level, LEVELS)
            )
        for name in ("tolerance", "relative"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SemError(
                    f"slot {name} {getattr(self, name)} is negative or not finite", "use 0 or more"
                )
        if self.threshold is not None and not 0 < self.threshold <= 1:
            # 0 would pass every answer, also one that is not there.
            raise SemError(f"slot threshold {self.threshold} is not in (0, 1]", "use 0.01 to 1")
        if self.unit is not None and not locales.is_known_unit(self.unit):
            raise SemError(
                f"slot unit {self.unit!r} is unknown",
                suggest_nearest_name(self.unit, locales.known_units()),
            )
        if self.decimal_mark not in (None, ".", ","):
            raise SemError(
                f"slot decimal_mark {self.decimal_mark!r} is unknown", "write '.' or ','"
            )

    @property
    def passes_from(self) -> float:
        """Return the score from which this slot passes."""
        return THRESHOLDS[self.level] if self.threshold is None else self.threshold


@dataclass(frozen=True)
class Level:
    """What judge_slots.yaml says about one level."""

    description: str = ""
    # For slots of this level that name none.
    threshold: float | None = None


@dataclass(frozen=True)
class SlotFile:
    """judge_slots.yaml, as far as slots go; `defaults` are the judge's own."""

    defaults: dict[str, Any] = field(default_factory=dict)
    slots: dict[str, Any] = field(default_factory=dict)
    levels: dict[str, Level] = field(default_factory=dict)
    # Weights of the rubric score, for tasks whose rubric names none.
    scoring: dict[str, float] = field(default_factory=lambda: dict(SCORING))


def load_slot_levels(path: Path) -> SlotFile:
    """Return the levels in `path` (judge_slots.yaml), checked; without a file, the plan's own."""
    slot_file = settings.load_settings(SlotFile, path)
    for name in slot_file.scoring:
        if name not in SCORING:
            raise SemError(
                f"{path}: scoring: {name!r} is unknown", suggest_nearest_name(name, SCORING)
            )
    for name, note in slot_file.levels.items():
        if name not in LEVELS:
            raise SemError(
                f"{path}: levels: {name!r} is unknown", suggest_nearest_name(name, LEVELS)
            )
        read_slotspec({"level": name, "threshold": note.threshold}, f"{path}: level {name!r}")
    for name, values in slot_file.slots.items():
        read_slotspec(values, f"{path}: slot {name!r}")
    return slot_file


def read_slotspec(values: Any, where: str) -> SlotSpec:
    """Return the SlotSpec in `values`, which is a level or a mapping.

    In a mapping `similarity` is read as `level`.
    """
    if isinstance(values, str):
        values = {"level": values}
    if isinstance(values, dict) and "similarity" in values:
        older = values["similarity"]
        if values.get("level", older) != older:
            raise SemError(
                f"{where}: level {values['level']!r} and similarity {older!r} differ",
                "keep `level` and remove `similarity`",
            )
        values = {k: v for k, v in values.items() if k != "similarity"} | {"level": older}
    return settings.build_settings(SlotSpec, values, where)


def slotspecs_of_schema(
    io_schema: dict[str, Any],
    named: dict[str, Any],
    where: str,
    shared: SlotFile | None = None,
    language: str | None = None,
) -> dict[str, SlotSpec]:
    """Return the SlotSpec of every field of `io_schema`.

    It comes from `named`, from `shared`, or from the type of the field.
    """
    shared = shared or SlotFile()
    thresholds = {name: note.threshold for name, note in shared.levels.items()}
    texts = [jsonio.canonical_json(v) for v in (io_schema, shared.slots | named, thresholds)]
    return dict(_of(*texts, where, language))


@lru_cache(maxsize=256)
def _of(
    schema_text: str, named_text: str, levels_text: str, where: str, language: str | None
) -> dict[str, SlotSpec]:
    named, thresholds = jsonio.parse_json(named_text), jsonio.parse_json(levels_text)
    specs = {
        name: read_slotspec(named[name], f"{where}: slot {name!r}")
        if name in named
        else SlotSpec(default_level(kind))
        for name, kind in schema_leaves(jsonio.parse_json(schema_text), named).items()
    }
    return {name: _completed(spec, thresholds, language) for name, spec in specs.items()}


def _completed(
    spec: SlotSpec, thresholds: dict[str, float | None], language: str | None
) -> SlotSpec:
    """Return `spec` with its level's threshold and the row's language, where it names none."""
    if spec.threshold is None and thresholds.get(spec.level) is not None:
        spec = replace(spec, threshold=thresholds[spec.level])
    if spec.level == "date_norm" and spec.language is None:
        spec = replace(spec, language=language)
    return spec


def schema_leaves(io_schema: dict[str, Any], named: Collection[str] = ()) -> dict[str, Any]:
    """Return path -> resolved schema of every compared field.

    An object in `named` is compared whole.
    """
    leaves: dict[str, Any] = {}
    _open(io_schema, io_schema, "", named, leaves)
    return leaves


def _open(kind: Any, root: Any, prefix: str, named: Collection[str], leaves: dict) -> None:
    for name, written in shape.schema_properties(kind, root).items():
        path, inner = prefix + name, shape.resolve_shape(written, root)
        opened, mark = _inside(inner, root)
        is_deep = path.count(".") >= MAX_DEPTH or "." in name or "[" in name
        if opened is None or path in named or is_deep:
            leaves[path] = inner
        else:
            _open(opened, root, f"{path}{mark}.", named, leaves)


def _inside(kind: shape.Schema | None, root: Any) -> tuple[Any, str]:
    """Return the object that `kind` is, or is a list of, and the mark that its path takes."""
    if _is_object(kind):
        return kind, ""
    items = shape.resolve_shape((kind or {}).get("items"), root)
    is_list = shape.schema_types(kind) <= {"array", "null"} and "prefixItems" not in (kind or {})
    return (items, "[]") if is_list and _is_object(items) else (None, "")


def _is_object(kind: shape.Schema | None) -> bool:
    """Return True if `kind` is an object of named fields, and not one choice of an either-or."""
    return bool((kind or {}).get("properties")) and shape.schema_types(kind) <= {"object", "null"}


def default_level(kind: shape.Schema | None) -> str:
    """Return the default level of a field by its type: numeric_tol, set_match or exact."""
    types = shape.schema_types(kind)
    # A number or a text are compared as they are: "1.50" is not 1.5 where both are allowed.
    if "anyOf" in (kind or {}) and not types <= {"number", "integer", "null"}:
        return "exact"
    if "number" in types:
        return "numeric_tol"
    return "set_match" if "array" in types else "exact"
