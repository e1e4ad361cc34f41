"""Columns of others under our names: `--map input_text=html --map meta.url=source.link`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError, suggest_nearest_name
from sem.dataset.ingest.readers import Row
from sem.dataset.store import examples_table

META = "meta"
# Our name -> every spelling a record may use for the same thing.
OURS = {
    **{
        name: spellings for name, spellings in examples_table.FIELDS.items() if name != "reference"
    },
    "output_json": examples_table.FIELDS["reference"],
    "negative_examples": ("negative_examples",),
}
NAMES = {spelling: spellings for spellings in OURS.values() for spelling in spellings}
# Rows without a column before it is called unknown; JSON may leave nulls out.
PATIENCE = 1_000


def parse_column_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """Return {ours: theirs} of `pairs`, each written OURS=THEIRS.

    Raise SemError when OURS is not a field.
    """
    columns = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise SemError(f"--map {pair!r}: not OURS=THEIRS", "write both names")
        if ours not in NAMES and not ours.startswith(f"{META}."):
            raise SemError(
                f"--map {pair!r}: unknown field {ours!r}", suggest_nearest_name(ours, NAMES)
            )
        if ours in columns:
            raise SemError(f"--map names {ours!r} twice", "leave one out: a field has one source")
        columns[ours] = theirs
    return columns


def map_columns(
    rows: Iterable[Row], columns: Mapping[str, str], where: str, patience: int = PATIENCE
) -> Iterator[Row]:
    """Yield `rows` with `columns` under our names; the rest stays as it is called.

    Raise SemError when a column is in none of the first `patience` rows.
    """
    if not columns:
        yield from rows
        return
    missing, number = dict(columns), 0
    names: dict[str, None] = {}
    used = {part for theirs in columns.values() for part in (theirs, theirs.partition(".")[0])}
    for number, (place, record) in enumerate(rows, 1):
        if isinstance(record, dict):
            names |= dict.fromkeys(record)
            values = {ours: _at(record, theirs) for ours, theirs in columns.items()}
            missing = {o: t for o, t in missing.items() if values[o] is None}
            record = _renamed(record, values, used)
        if number == patience:
            _check(missing, names, where)
        yield place, record
    if number < patience:
        _check(missing, names, where)


def _check(missing: Mapping[str, str], names: Iterable[str], where: str) -> None:
    names = list(map(str, names))
    for ours, theirs in missing.items():
        top = theirs if theirs in names else theirs.partition(".")[0]
        if names and top not in names:
            raise SemError(
                f"{where}: --map {ours}={theirs}: no column {top!r}",
                suggest_nearest_name(top, names),
            )
        if names and top != theirs:
            raise SemError(
                f"{where}: --map {ours}={theirs}: no row has {theirs!r}",
                f"column {top!r} is there: check the path below it",
            )


def _at(record: dict[str, Any], path: str) -> Any:
    """Return what `path` leads to in `record`, through objects, lists and cells that hold JSON
    text.
    """
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        value = _opened(value)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _opened(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return jsonio.parse_json(value)
    except ValueError:
        return None


def _renamed(
    record: dict[str, Any], values: dict[str, Any], used: Iterable[str]
) -> dict[str, Any]:
    replaced = {s for ours in values for s in NAMES.get(ours, ())}
    replaced |= {name for name in used if name not in NAMES}
    renamed = {name: value for name, value in record.items() if name not in replaced}
    renamed |= {ours: value for ours, value in values.items() if ours in NAMES}
    added = {
        ours.removeprefix(f"{META}."): value
        for ours, value in values.items()
        if ours not in NAMES and value is not None
    }
    if added:
        metadata = next((renamed[s] for s in OURS["metadata"] if renamed.get(s) is not None), None)
        inner = _opened(metadata)
        first = (
            inner
            if isinstance(inner, dict)
            else {}
            if metadata is None
            else {"unusable": metadata}
        )
        renamed["metadata"] = {**first, **added}
    return renamed
