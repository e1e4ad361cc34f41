"""JSON Schema at the borders, without its traps.

The stock validator fetches `$ref` over http and file, lets a regular expression run
forever, takes 1.0 for an integer and NaN for a number, and ignores `format`.
"""

from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from sem.core import jsonio
from sem.core.errors import SemError, suggest_nearest_name

PATTERN_TIMEOUT_S = 0.2


def check_schema(schema: Any, where: str) -> None:
    """Raise SemError when `schema`, found at `where`, is not a valid schema of its own `$schema`
    draft.
    """
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict):
        raise SemError(f"{where}: a schema must be an object", "write {type: object, …}")
    try:
        _dialect(schema, where).check_schema(schema)
    except SchemaError as error:
        path = "/".join(str(part) for part in error.absolute_path) or "the root"
        raise SemError(
            f"{where}: not a valid JSON Schema: {path}: {error.message[:200]}",
            "correct that key; the draft is the one `$schema` names (default 2020-12)",
        ) from error
    _check_references(schema, where, schema)


def schema_problems(value: Any, schema: dict[str, Any], limit: int = 20) -> list[str]:
    """Return what keeps `value` from fitting `schema`, as `path: message` lines.

    Empty when it fits.
    """
    return problems_at(value, schema, schema, limit)


def problems_at(value: Any, kind: Any, root: dict[str, Any], limit: int = 20) -> list[str]:
    """Return what keeps `value` from fitting `kind`, a part of the document `root`.

    References in `kind` are read in `root`: {"$ref": "#/$defs/Seller"} alone points nowhere.
    """
    from referencing.exceptions import Unresolvable

    problems = []
    try:
        validator = _validator(jsonio.canonical_json(root))
        validator = validator if kind is root else validator.evolve(schema=kind)
        for error in validator.iter_errors(value):
            path = "/".join(str(part) for part in error.absolute_path) or "(root)"
            problems.append(f"{path}: {error.message[:160]}")
            if len(problems) == limit:
                break
    except (ValueError, RecursionError, TimeoutError, Unresolvable) as error:
        problems.append(f"(root): cannot be checked: {error}")
    return sorted(problems)


@lru_cache(maxsize=64)
def _validator(schema_text: str) -> Any:
    from jsonschema import FormatChecker, validators
    from referencing import Registry

    schema = jsonio.parse_json(schema_text)
    dialect = _dialect(schema, "schema")
    strict = validators.extend(
        dialect,
        validators={"pattern": _pattern},
        type_checker=dialect.TYPE_CHECKER.redefine("integer", _is_integer).redefine(
            "number", _is_number
        ),
    )
    return strict(schema, registry=Registry(), format_checker=FormatChecker())


def _dialect(schema: dict[str, Any], where: str) -> Any:
    from jsonschema import Draft202012Validator, validators

    named = schema.get("$schema")
    if named is None:
        return Draft202012Validator
    validator = validators.validator_for(schema, default=None) if isinstance(named, str) else None
    if validator is None:
        raise SemError(
            f"{where}: unknown draft {named!r}",
            "use https://json-schema.org/draft/2020-12/schema or an older draft's own address",
        )
    return validator


def follow_reference(reference: str, root: Any) -> Any:
    """Return the part of the document `root` that `reference` names; None where there is none."""
    pointer = unquote(reference.removeprefix("#"))
    if pointer and not pointer.startswith("/"):
        return _anchored(pointer, root)
    here = root
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(here, list):
            here = here[int(key)] if key.isdecimal() and int(key) < len(here) else None
        else:
            here = here.get(key) if isinstance(here, dict) else None
    return here


def _anchored(name: str, here: Any) -> Any:
    if isinstance(here, dict):
        if name in (here.get("$anchor"), here.get("$dynamicAnchor")):
            return here
        here = list(here.values())
    if not isinstance(here, list):
        return None
    return next((hit for inner in here if (hit := _anchored(name, inner)) is not None), None)


def _check_references(schema: Any, where: str, root: Any) -> None:
    if isinstance(schema, dict):
        for name in ("$ref", "$dynamicRef"):
            # A property may be called `$ref`, too: then its value is a schema and no text.
            if isinstance(schema.get(name), str):
                _check_reference(schema[name], where, root)
        for value in schema.values():
            _check_references(value, where, root)
    elif isinstance(schema, list):
        for value in schema:
            _check_references(value, where, root)


def _check_reference(reference: str, where: str, root: Any) -> None:
    if not reference.startswith("#"):
        raise SemError(
            f"{where}: $ref {reference!r} leaves the document", "copy the part into $defs"
        )
    if follow_reference(reference, root) is None:
        names = root.get("$defs") or root.get("definitions") or {}
        last = reference.rpartition("/")[2]
        raise SemError(
            f"{where}: $ref {reference!r} points nowhere", suggest_nearest_name(last, names)
        )


def _pattern(_: Any, pattern: str, instance: Any, schema: Any) -> Any:
    import regex
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, str):
        return
    try:
        if not regex.search(pattern, instance, timeout=PATTERN_TIMEOUT_S):
            yield ValidationError(f"{instance[:60]!r} does not match {pattern!r}")
    except TimeoutError:
        yield ValidationError(f"pattern {pattern[:60]!r} takes longer than {PATTERN_TIMEOUT_S} s")


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and abs(value) < float("inf"))
