"""What a JSON Schema allows at one place, with references followed and compositions merged.

pydantic writes `Optional[X]` as `anyOf: [X, null]`, a nested model as a `$ref` into `$defs`, a
Literal as `const` or `enum`, a tuple as `prefixItems`. Everything that reads a schema reads it
through here, so that the same contract means the same however it is spelt:

    shape.resolve({"anyOf": [{"$ref": "#/$defs/Seller"}, {"type": "null"}]}, io_schema)
    -> {"type": ["null", "object"], "properties": {"name": {"type": "string"}}, ...}
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sem.core import jsonio, schema

Schema = dict[str, Any]

_COMPOSED = frozenset(("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "const", "items", "type"))
_LARGER = ("minItems", "minLength", "minProperties", "minimum")
_SMALLER = ("maxItems", "maxLength", "maxProperties", "maximum")
# Marks what may be null beside a value of any type, as pydantic's `Any | None`.
_NULL = "$null"
_NOTES = frozenset(("title", "description", "default", "examples", "$defs", "definitions"))


def resolve_shape(kind: Any, root: Any) -> Schema | None:
    """Return the schema `kind` of the document `root` as one object; None where it points nowhere.

    `type` is a list, `const` an `enum` of one, a tuple's schemas stand under `prefixItems`. Of
    alternatives the result holds what any of them may hold, and keeps them under `anyOf`, so that
    it is still a schema. A reference that only leads back to itself allows anything.
    """
    return _resolved(kind, root, {})


def schema_types(kind: Schema | None) -> frozenset[str]:
    """Return the JSON types that the resolved `kind` names; empty when it names none."""
    return frozenset((kind or {}).get("type") or ())


def is_nullable(kind: Schema | None) -> bool:
    """Return True if the resolved `kind` says that null may stand there."""
    named, values = schema_types(kind), (kind or {}).get("enum")
    if values is not None and None not in values:
        return False
    return "null" in named or (not named and (values is not None or _NULL in (kind or {})))


def is_closed(kind: Schema | None) -> bool:
    """Return True if the values of the resolved `kind` are chosen from a list."""
    return bool(kind and kind.get("enum"))


def is_text(kind: Any, root: Any) -> bool:
    """Return True if the schema `kind` of the document `root` allows texts alone."""
    return schema_types(resolve_shape(kind, root)) == {"string"}


def schema_properties(kind: Any, root: Any) -> dict[str, Any]:
    """Return the properties that `kind` names, each schema as it is written."""
    return (resolve_shape(kind, root) or {}).get("properties") or {}


def property_schema(kind: Schema | None, name: str) -> Any:
    """Return the schema of the key `name` of the resolved `kind`; None where any value may be."""
    kind = kind or {}
    if name in kind.get("properties", {}):
        return kind["properties"][name]
    for pattern, inner in kind.get("patternProperties", {}).items():
        if not schema.schema_problems(name, {"type": "string", "pattern": pattern}, limit=1):
            return inner
    other = kind.get("additionalProperties")
    return other if isinstance(other, dict) else None


def item_schema(kind: Schema | None, index: int) -> Any:
    """Return the schema of item `index` of the resolved `kind`; None where any value may be."""
    first = (kind or {}).get("prefixItems") or []
    return first[index] if index < len(first) else (kind or {}).get("items")


def possible_item_schemas(kind: Schema | None) -> list[Any]:
    """Return every schema that an item of the resolved `kind` may have."""
    first = list((kind or {}).get("prefixItems") or [])
    other = (kind or {}).get("items")
    return [*first, other] if isinstance(other, dict) else first


def describe_shape(kind: Any, root: Any) -> str:
    """Return one text for all that `kind` says, definitions behind its references included.

    A `$ref` alone stays the same when the definition behind it changes.
    """
    targets: dict[str, Any] = {}
    pending = [kind]
    while pending:
        for reference in schema_references(pending.pop()):
            if reference not in targets:
                targets[reference] = schema.follow_reference(reference, root)
                pending.append(targets[reference])
    return jsonio.canonical_json([kind, targets] if targets else kind)


def schema_references(kind: Any) -> Iterator[str]:
    """Return every `$ref` that is written in `kind`."""
    if isinstance(kind, Mapping):
        if isinstance(kind.get("$ref"), str):
            yield kind["$ref"]
        kind = list(kind.values())
    for inner in kind if isinstance(kind, list) else ():
        yield from schema_references(inner)


def rebase_references(kind: Any, prefix: str) -> Any:
    """Return a whole document `kind` as it must read when it stands at `prefix` of another."""
    if isinstance(kind, list):
        return [rebase_references(inner, prefix) for inner in kind]
    if not isinstance(kind, dict):
        return kind
    moved = {key: rebase_references(inner, prefix) for key, inner in kind.items()}
    reference = kind.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        moved["$ref"] = f"#{prefix}{reference.removeprefix('#')}"
    return moved


def fill_nulls(value: Any, kind: Any, root: Any) -> Any:
    """Return `value` with null under every required key that it lacks and that may be null."""
    held = resolve_shape(kind, root) or {}
    if isinstance(value, list):
        return [fill_nulls(v, item_schema(held, n), root) for n, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    branches = [resolve_shape(branch, root) or {} for branch in held.get("anyOf", ())]
    # Which model of a union is meant shows in the keys and labels that are there.
    meant = (b for b in branches if "anyOf" not in b and _may_hold(value, b, root))
    held = _both(held, next(meant, {}))
    absent = [name for name in held.get("required", ()) if name not in value]
    inner = {name: property_schema(held, name) for name in (*value, *absent)}
    nulls = {n: None for n in absent if is_nullable(resolve_shape(inner[n], root))}
    return nulls | {name: fill_nulls(v, inner[name], root) for name, v in value.items()}


def _may_hold(value: Schema, branch: Schema, root: Any) -> bool:
    """Return True if `value` is an object of `branch`, but for nulls that are left out."""
    named = branch.get("properties", {})
    if branch.get("additionalProperties") is False and not set(value) <= set(named):
        return False
    inner = {name: resolve_shape(kind, root) for name, kind in named.items()}
    enums = {name: kind["enum"] for name, kind in inner.items() if kind and kind.get("enum")}
    missing = [n for n in branch.get("required", ()) if n not in value]
    return all(is_nullable(inner.get(n)) for n in missing) and all(
        value[n] in listed for n, listed in enums.items() if n in value
    )


def _resolved(kind: Any, root: Any, memo: dict[str, Schema | None]) -> Schema | None:
    if kind is True:
        return {}
    if not isinstance(kind, dict):
        return None
    merged = _plain(kind)
    for name in ("$ref", "$dynamicRef"):
        if isinstance(kind.get(name), str):
            target = _followed(kind[name], root, memo)
            if target is None:
                return None
            merged = _both(merged, target)
    for part in kind.get("allOf") or ():
        merged = _both(merged, _resolved(part, root, memo) or {})
    for name in ("anyOf", "oneOf"):
        branches = kind.get(name) or ()
        if branches:
            merged = _both(merged, _either(branches, [_resolved(b, root, memo) for b in branches]))
    if kind.get("unevaluatedProperties") is False:
        merged.setdefault("additionalProperties", False)
    return merged


def _plain(kind: Schema) -> Schema:
    """Return the keywords of `kind` itself, in the one spelling that this file reads."""
    plain = {key: value for key, value in kind.items() if key not in _COMPOSED}
    if "type" in kind:
        named = kind["type"] if isinstance(kind["type"], list) else [kind["type"]]
        plain["type"] = sorted(str(name) for name in named)
    if "const" in kind:
        plain["enum"] = [kind["const"]]
    items = kind.get("items")
    if isinstance(items, list):
        # Before draft 2020-12 a tuple was a list under `items`.
        plain["prefixItems"], items = items, kind.get("additionalItems")
    if items is not None:
        plain["items"] = items
    return plain


def _followed(reference: str, root: Any, memo: dict[str, Schema | None]) -> Schema | None:
    if reference not in memo:
        memo[reference] = {}
        memo[reference] = _resolved(schema.follow_reference(reference, root), root, memo)
    return memo[reference]


def _both(first: Schema, second: Schema) -> Schema:
    """Return what `first` and `second` allow together."""
    merged, rest = dict(first), {}
    for key, value in second.items():
        if key not in merged:
            merged[key] = value
        elif key in _BOTH:
            merged[key] = _BOTH[key](merged[key], value)
        elif merged[key] != value and key not in _NOTES:
            rest[key] = value
    if rest:
        merged["allOf"] = [*merged.get("allOf", []), rest]
    return merged


def _shared_types(first: Sequence[str], second: Sequence[str]) -> list[str]:
    # An integer is a number.
    sides = [{*names, "integer"} if "number" in names else {*names} for names in (first, second)]
    both = sides[0] & sides[1]
    return sorted(both - {"integer"} if "number" in both else both)


def _joined(first: Schema, second: Schema) -> Schema:
    differ = (n for n in first if n in second and first[n] != second[n])
    return first | second | {n: {"allOf": [first[n], second[n]]} for n in differ}


def _tighter(first: Any, second: Any) -> Any:
    if first is False or second is False:
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first if first == second else {"allOf": [first, second]}
    return first if isinstance(first, dict) else second


_BOTH: dict[str, Callable[[Any, Any], Any]] = {
    "type": _shared_types,
    "enum": lambda first, second: [
        v for v in first if jsonio.canonical_json(v) in map(jsonio.canonical_json, second)
    ],
    "required": lambda first, second: sorted({*first, *second}),
    "properties": _joined,
    "patternProperties": _joined,
    "items": _tighter,
    "additionalProperties": _tighter,
    "anyOf": lambda first, second: first,
    "allOf": lambda first, second: [*first, *second],
    **dict.fromkeys(_LARGER, max),
    **dict.fromkeys(_SMALLER, min),
}


def _either(written: Sequence[Any], branches: Sequence[Schema | None]) -> Schema:
    """Return what any of `branches`, the alternatives as `written`, allows."""
    alive = [(raw, b) for raw, b in zip(written, branches, strict=True) if b is not None]
    others = [
        (raw, b) for raw, b in alive if schema_types(b) != {"null"} and b.get("enum") != [None]
    ]
    is_open = len(others) < len(alive)
    if not others:
        return {"type": ["null"]} if is_open else {}
    if len(others) == 1:
        return _or_null(others[0][1]) if is_open else others[0][1]
    merged = _union([branch for _, branch in others])
    # Only references below need the document; the alternatives themselves are kept as written.
    return (_or_null(merged) if is_open else merged) | {"anyOf": [raw for raw, _ in alive]}


def _or_null(kind: Schema) -> Schema:
    named = {"type": sorted({*kind["type"], "null"})} if kind.get("type") else {}
    listed = {"enum": [*kind["enum"], None]} if kind.get("enum") else {}
    return kind | named | listed | {_NULL: True}


def _union(branches: Sequence[Schema]) -> Schema:
    union: Schema = {}
    if all(b.get("type") for b in branches):
        union["type"] = sorted({name for b in branches for name in b["type"]})
    if all(b.get("enum") for b in branches):
        texts = {jsonio.canonical_json(value): value for b in branches for value in b["enum"]}
        union["enum"] = [texts[text] for text in sorted(texts)]
    objects = [b for b in branches if b.get("properties")]
    if objects:
        names = dict.fromkeys(name for b in objects for name in b["properties"])
        union["properties"] = {
            name: _any_of(b["properties"][name] for b in objects if name in b["properties"])
            for name in names
        }
        union["required"] = sorted(set.intersection(*({*b.get("required", ())} for b in objects)))
        if all(b.get("additionalProperties") is False for b in objects):
            union["additionalProperties"] = False
    items = [inner for b in branches for inner in possible_item_schemas(b)]
    if items:
        union["items"] = _any_of(items)
    return union


def _any_of(kinds: Iterable[Any]) -> Any:
    different = list({jsonio.canonical_json(kind): kind for kind in kinds}.values())
    return different[0] if len(different) == 1 else {"anyOf": different}
