"""What the columns of a contribution are: the label, and what is learnt from.

A column is numeric where nearly all of its values are; names that end in `_id` never are.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sem.core import files, jsonio
from sem.core.errors import SemError

Kind = Literal["text", "table"]
Target = Literal["classes", "number"]
LABELS = ("label", "labels", "target", "class", "category", "intent", "y")
TEXTS = (
    "text",
    "query_text",
    "question",
    "prompt",
    "input_text",
    "utterance",
    "sentence",
    "query",
)
FEATURES = "features"
MOST_COLUMNS = 10_000
# Of one column; beyond it the number is left out and said.
MOST_DISTINCT = 200_000
# Share of a column's values that must be numbers.
NUMERIC = 0.99
IDS = ("id", "index", "row", "uuid")
# Different numbers up to which labels are classes.
MOST_VALUES = 50
# On average, from which on they are classes, too.
ROWS_A_VALUE = 5
# Columns that a message names.
NAMED = 8


@dataclass(frozen=True)
class ColumnShape:
    """What the columns are."""

    kind: Kind
    label: str
    # The column, kind `text`.
    text: str | None = None
    # The columns, kind `table`; ("features",) for a list.
    features: tuple[str, ...] = ()
    width: int = 0  # of a row's features
    target: Target = "classes"

    @property
    def is_of_numbers(self) -> bool:
        """Return whether what is learnt is a quantity."""
        return self.target == "number"


def too_wide(path: Path) -> SemError:
    """Return the refusal of a file with too many columns."""
    return SemError(
        f"{path}: more than {MOST_COLUMNS:,} columns",
        "write a row's numbers as one list in the column `features`",
    )


class Columns:
    """What the first pass sees of each column."""

    def __init__(self) -> None:
        self.rows = 0
        self.nulls: Counter[str] = Counter()
        self.kinds: dict[str, Counter[str]] = {}
        self.distinct: dict[str, set[int] | None] = {}
        # Of lists in `features`.
        self.widths: Counter[int] = Counter()
        self.notes: Counter[str] = Counter()

    def add(self, row: Any, path: Path) -> None:
        """Count `row`, when it is one."""
        if not isinstance(row, dict):
            return
        self.rows += 1
        for name, value in row.items():
            if name not in self.kinds:
                self._new(str(name), path)
            self._value(name, value)

    def _new(self, name: str, path: Path) -> None:
        if len(self.kinds) == MOST_COLUMNS:
            raise too_wide(path)
        self.kinds[name] = Counter()
        self.distinct[name] = set()

    def _value(self, name: str, value: Any) -> None:
        if value is None or value == "":
            self.nulls[name] += 1
            return
        if name == FEATURES:
            listed = as_list(value)
            self.kinds[name]["list" if listed is not None else "text"] += 1
            self.widths[len(listed or ())] += 1
        else:
            self.kinds[name][type_of(value)] += 1
        values = self.distinct[name]
        if values is not None:
            values.add(hash(str(value)))
            if len(values) > MOST_DISTINCT:
                self.distinct[name] = None
                self.notes[f"column {name}: more than {MOST_DISTINCT:,} different values"] += 1

    def manifest(self, path: Path) -> dict[str, Any]:
        """data_manifest as the legacy output has it."""
        unique = {
            name: len(values) for name, values in self.distinct.items() if values is not None
        }
        return {
            "source_path": path.name,
            "row_count": self.rows,
            "column_count": len(self.kinds),
            "columns": list(self.kinds),
            "data_hash": files.sha256_file(path),
            "dtypes": {name: _dtype(kinds) for name, kinds in self.kinds.items()},
            "null_counts": {name: self.nulls[name] for name in self.kinds},
            "unique_counts": unique,
        }


def type_of(value: Any) -> str:
    """Return the kind of `value`: bool, int, float, text or object.

    A number in a text is a number.
    """
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if not isinstance(value, str):
        return "object"
    try:
        number = float(value)
    except ValueError:
        return "text"
    return "int" if number.is_integer() and "." not in value else "float"


def _dtype(kinds: Counter[str]) -> str:
    types = set(kinds)
    if types and types <= {"int"}:
        return "int64"
    if types and types <= {"int", "float"}:
        return "float64"
    return "bool" if types == {"bool"} else "object"


def as_list(value: Any) -> list[Any] | None:
    """Return `value` as a list, also where CSV holds it as text (`[0.1, 0.2]`).

    None when it is none.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "(")):
        return None
    try:
        items = jsonio.parse_json(value)
    except ValueError:
        try:
            items = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return list(items) if isinstance(items, list | tuple) else None


def shape_of(
    columns: Columns, path: Path, like: ColumnShape | None, target: str = "auto"
) -> ColumnShape:
    """Return what `columns` of `path` are, as `like` has them where it is given.

    Raise SemError if none.

    `target`: `classes`, `number`, or `auto` for what the labels look like.
    """
    if not columns.rows:
        raise SemError(f"{path}: holds no rows", "was it cut off? copy it again")
    names = {name.casefold(): name for name in columns.kinds}
    if like is not None:
        return _as(like, names, path)
    label = next((names[spelling] for spelling in LABELS if spelling in names), None)
    if label is None:
        raise SemError(
            f"{path}: no column says what a row is: {_named(columns.kinds)}",
            f"name it {LABELS[0]}, or one of {', '.join(LABELS[1:])}",
        )
    is_number = is_quantity_column(columns, label) if target == "auto" else target == "number"
    what: Target = "number" if is_number else "classes"
    if FEATURES in columns.kinds and columns.kinds[FEATURES]["list"]:
        width = columns.widths.most_common(1)[0][0]
        return ColumnShape("table", label, features=(FEATURES,), width=width, target=what)
    text = next(
        (names[spelling] for spelling in TEXTS if spelling in names and names[spelling] != label),
        None,
    )
    if text is not None and columns.kinds[text]["text"]:
        return ColumnShape("text", label, text=text, target=what)
    numeric = tuple(name for name in columns.kinds if name != label and _is_numeric(columns, name))
    if not numeric:
        raise SemError(
            f"{path}: neither a text nor numbers to learn from: {_named(columns.kinds)}",
            "name a column text, or give numeric columns or a list in `features`",
        )
    return ColumnShape("table", label, features=numeric, width=len(numeric), target=what)


def is_quantity_column(columns: Columns, label: str) -> bool:
    """Return whether the column `label` holds numbers that are not classes.

    Many, and few rows of each.

    151.0 and 75.0 in 442 rows of 214 different values are a quantity; 0 to 149 in 22,500 rows,
    150 of each, are classes.
    """
    kinds, values = columns.kinds[label], columns.distinct[label]
    total, different = sum(kinds.values()), MOST_DISTINCT if values is None else len(values)
    numbers = kinds["int"] + kinds["float"]
    if not total or numbers / total < NUMERIC or different <= MOST_VALUES:
        return False
    return total < ROWS_A_VALUE * different


def _as(like: ColumnShape, names: Mapping[str, str], path: Path) -> ColumnShape:
    """Return `like` with the spelling of this file's columns.

    The SemError names what is missing.
    """
    columns = [like.label, *([like.text] if like.text else like.features)]
    missing = [name for name in columns if name.casefold() not in names]
    if missing:
        raise SemError(
            f"{path}: column {missing[0]!r} is missing, which the base data have",
            f"it has {_named(names.values())}",
        )
    spelled = [names[name.casefold()] for name in columns]
    text = spelled[1] if like.text else None
    features = () if like.text else tuple(spelled[1:])
    return ColumnShape(like.kind, spelled[0], text, features, like.width, like.target)


def _is_numeric(columns: Columns, name: str) -> bool:
    lowered = name.casefold()
    if lowered in IDS or lowered.endswith(("_id", "_index", "_uuid")) or lowered == "unnamed: 0":
        return False
    kinds = columns.kinds[name]
    total = sum(kinds.values())
    return bool(total) and (kinds["int"] + kinds["float"] + kinds["bool"]) / total >= NUMERIC


def _named(names: Iterable[str]) -> str:
    """Return the first of `names`, for a message."""
    return ", ".join(list(names)[:NAMED])
