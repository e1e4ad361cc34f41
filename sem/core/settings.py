"""YAML to a frozen dataclass, strictly.

An unknown key is an error that names the nearest one; `2e-4` is a number; `no` is text only
where text is wanted and otherwise refused with a hint; a repeated key, an alias and nesting
deeper than 32 are refused.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from sem.core import files
from sem.core.errors import SemError, suggest_nearest_name

Settings = TypeVar("Settings")

MAX_DEPTH = 32
MAX_CHARS = 4_000_000


def load_settings(cls: type[Settings], path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Return the settings in `path` as a `cls`; `overrides` (`a.b=1`) win.

    No file means the defaults.
    """
    return build_settings(cls, read_settings_file(path, overrides), str(path))


def read_settings_file(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the values in `path`, checked against nothing; `overrides` win.

    No file means none.
    """
    values = read_yaml(path) if path.exists() else {}
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise SemError(f"{path}: holds no settings", "write `key: value` lines")
    for pair in overrides:
        apply_override(values, pair)
    return values


def build_settings(cls: type[Settings], values: dict[str, Any], where: str) -> Settings:
    """Return `values`, found at `where`, as a `cls`.

    The SemError names the first key that does not fit.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    _forbid_unknown(cls, ConfigDict(extra="forbid", allow_inf_nan=False))
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        raise _explained(cls, _worst(error.errors()), where) from error
    except SemError as error:  # a value that a dataclass itself refused
        raise SemError(f"{where}: {error.message}", error.hint) from error


def _worst(faults: Sequence[Any]) -> Any:
    # An unknown key first: a misspelt required key is reported as missing, too.
    unknown = [fault for fault in faults if fault["type"] == "unexpected_keyword_argument"]
    return (unknown or faults)[0]


def read_yaml(path: Path) -> Any:
    """Return the plain value in the YAML file `path`.

    Raise SemError when it is not plain and strict YAML.
    """
    return parse_yaml(files.read_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return the plain value of YAML `text`, found at `where`."""
    import yaml

    if len(text) > MAX_CHARS:
        raise SemError(
            f"{where}: longer than {MAX_CHARS:,} characters",
            "shorten it: a settings file is small",
        )
    try:
        _refuse_aliases_and_depth(yaml, text)
        return yaml.load(text, Loader=_loader(yaml))  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())[:300]
        raise SemError(f"{where}: not usable YAML: {detail}", "correct that line") from error


def _refuse_aliases_and_depth(yaml: Any, text: str) -> None:
    # Events, not nodes: a 436-byte alias bomb composes fast and never ends when walked.
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {event.start_mark.line + 1}: aliases are not supported")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"line {event.start_mark.line + 1}: nested deeper than {MAX_DEPTH}")


def _loader(yaml: Any) -> Any:
    class Loader(yaml.SafeLoader):
        """SafeLoader with YAML 1.2 numbers and booleans, and without repeated keys."""

        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if not _is_replaced(tag)]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if not isinstance(key, str | int):
                    raise ValueError(f"line {node.start_mark.line + 1}: key {key!r} is not text")
                if keys.count(key) > 1:
                    raise ValueError(f"line {node.start_mark.line + 1}: key {key!r} appears twice")
            return super().construct_mapping(node, deep=deep)

    number = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$")
    whole = re.compile(r"[-+]?(?:0|[1-9][\d_]*)$")
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", whole, list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def _is_replaced(tag: str) -> bool:
    # Dates too: 2026-01-01 stays the text a person wrote.
    return tag.rsplit(":", 1)[-1] in ("bool", "int", "float", "timestamp")


def apply_override(values: dict[str, Any], pair: str) -> str:
    """Set in `values` what `pair` (`a.b=1`) says; the key, as `a.b`."""
    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise SemError(f"--set {pair!r}: not KEY=VALUE", "write it as key.sub=value")
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise SemError(f"--set {pair!r}: {parent!r} has no keys below it", "shorten it")
        values = inner
    values[last] = parse_yaml(text, f"--set {key}")
    return key


def strip_override_prefix(name: str, pairs: Sequence[str]) -> list[str]:
    """Return `pairs` (`NAME.key=value`) without `name`; raise SemError for one of another file."""
    for pair in pairs:
        if not pair.startswith(f"{name}."):
            raise SemError(f"--set {pair!r}: not a key of {name}.yaml", f"write {name}.KEY=VALUE")
    return [pair.removeprefix(f"{name}.") for pair in pairs]


def _forbid_unknown(cls: Any, config: Any) -> None:
    if not dataclasses.is_dataclass(cls):
        return
    setattr(cls, "__pydantic_config__", config)  # noqa: B010 - pydantic's own attribute
    inner: Any
    for inner in _dataclasses_in(cls):
        if getattr(inner, "__pydantic_config__", None) != config:
            _forbid_unknown(inner, config)


def _dataclasses_in(cls: Any) -> list[Any]:
    import typing

    classes, pending = [], list(typing.get_type_hints(cls).values())
    while pending:
        kind = pending.pop()
        pending.extend(typing.get_args(kind))
        if dataclasses.is_dataclass(kind):
            classes.append(kind)
    return classes


def shorten_value(value: Any) -> str:
    """Return `value` as an error shows it: its first 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _explained(cls: Any, fault: Any, where: str) -> SemError:
    location = [str(part) for part in fault["loc"]]
    name = ".".join(location)
    if fault["type"] == "unexpected_keyword_argument":
        keys = _keys_at(cls, location[:-1])
        return SemError(f"{where}: unknown key {name!r}", suggest_nearest_name(location[-1], keys))
    if fault["type"] in ("missing", "missing_argument"):
        return SemError(f"{where}: key {name!r} is missing", f"add a line `{location[-1]}: …`")
    excerpt = shorten_value(fault.get("input"))
    hint = "write true or false" if str(fault.get("input")) in ("yes", "no", "on", "off") else ""
    return SemError(
        f"{where}: {name or 'the file'}: {fault['msg']}, not {excerpt}",
        hint or f"correct {location[-1] if location else 'it'!r}",
    )


def _keys_at(cls: Any, location: Sequence[str]) -> list[str]:
    import typing

    for part in location:
        hint = typing.get_type_hints(cls).get(part) if dataclasses.is_dataclass(cls) else None
        kinds = [hint, *typing.get_args(hint)]
        cls = next((kind for kind in reversed(kinds) if dataclasses.is_dataclass(kind)), cls)
    return [field.name for field in dataclasses.fields(cls)]
