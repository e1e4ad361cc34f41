"""Strict JSON in, canonical JSON out.

The standard reader takes NaN, repeated keys and 4,300-digit integers; a label file
must not. Canonical means sorted keys, UTF-8 as it is, no NaN (close to RFC 8785).
"""

import json
import math
import re
from typing import Any

MAX_DEPTH = 64
MAX_CHARS = 32_000_000
MAX_VALUES = 3_000_000  # `[{},{},…` of 32 MB would take 1 GB; strings may hold commas, too
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.S)
_BRACKETS = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")

Json = Any


def loads(text: str) -> Json:
    """The value of TEXT; ValueError on NaN, infinity, repeated keys and depth beyond 64."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"longer than {MAX_CHARS:,} characters")
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES:,} commas and brackets")
    if _too_deep(text):
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    _check_text(text)
    return value


def dumps(value: Json) -> str:
    """VALUE as canonical one-line JSON; ValueError when it holds NaN or infinity."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def pretty(value: Json) -> str:
    """VALUE as indented canonical JSON with a final newline."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def count_marks(text: str) -> int:
    """Return how many commas and opening brackets `text` has outside its strings.

    It bounds the number of values before anything is parsed, also where `text` is not JSON.
    """
    bare = _STRINGS.sub("", text)
    return sum(map(bare.count, ",[{"))


def _too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} appears twice")
    return found


def _refuse(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} does not fit a double")
    return number


def _check_text(text: str) -> None:
    # "\ud800" parses, then breaks every UTF-8 writer downstream.
    if re.search(r"\\u[dD][89a-fA-F]", text) or _SURROGATE.search(text):
        try:
            json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("holds half of a surrogate pair, which is no text") from error
