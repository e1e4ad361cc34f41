"""Strict JSON in, canonical JSON out.

The standard reader takes NaN, repeated keys and 4,300-digit integers; a label file
must not. Canonical means sorted keys, UTF-8 as it is, no NaN (close to RFC 8785). What a model
wrote around its JSON is read in `read_reply`, and nowhere else.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_DEPTH = 64
MAX_CHARS = 32_000_000
# `[{},{},…` of 32 MB would take 1 GB; strings may hold commas, too.
MAX_VALUES = 3_000_000
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.S)
_BRACKETS = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Reasoning models think aloud before they answer; some templates open the tag themselves.
THOUGHT_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.I)
THOUGHT = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.I)
FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*\w*[ \t]*\n?(.*?)(?:\n[ \t]*|[ \t]*)\1[ \t]*$", re.S | re.M
)
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}]', re.S)
MAX_OBJECTS = 20
# Characters up to which a reply is searched for its value; longer ones must be JSON themselves.
MAX_WRAPPED = 200_000

Json = Any


def parse_json(text: str) -> Json:
    """Return the value of `text`.

    ValueError on NaN, infinity, repeated keys and depth beyond 64.
    """
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


def canonical_json(value: Json) -> str:
    """Return `value` as canonical one-line JSON; ValueError when it holds NaN or infinity."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def pretty_json(value: Json) -> str:
    """Return `value` as indented canonical JSON with a final newline."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_reply(text: str, echo: Mapping[str, Json] | None = None) -> Json:
    """Return the one JSON value in the reply `text`; ValueError when there is none, or two.

    Read around: a thought before the answer, a byte order mark, a fence, a sentence before or
    after. Of several different objects the one counts that repeats `echo` (a nonce that no page
    knows); without it nobody can tell the answer from a quotation.
    """
    text = text.strip().lstrip("\ufeff")
    try:
        # First as it is: a text in the value may speak of `</think>`, too.
        return parse_json(text)
    except ValueError as error:
        whole = error
    if len(text) > MAX_WRAPPED:
        raise whole
    *_, text = THOUGHT_END.split(text)
    if THOUGHT.search(text):
        raise ValueError("the reply ends within its thought")
    # An example in a fence and the answer behind it are two candidates.
    fenced = [match[2] for match in FENCE.finditer(text)]
    values, fault = _different_values([*fenced, *_outermost_objects(FENCE.sub("", text))])
    repeated = [v for v in values if echo and isinstance(v, dict) and echo.items() <= v.items()]
    if len(repeated) == 1:
        return repeated[0]
    if len(values) > 1:
        raise ValueError(f"{len(values)} different values in one reply")
    if values and fault is None:
        return values[0]
    raise fault or whole


def _different_values(candidates: Sequence[str]) -> tuple[list[Json], ValueError | None]:
    """Return the different values of `candidates`, and the first fault of one that is none."""
    values: dict[str, Json] = {}
    fault = None
    for candidate in candidates:
        try:
            value = parse_json(candidate)
            values[canonical_json(value)] = value
        except ValueError as error:
            fault = fault or error
    return list(values.values()), fault


def _outermost_objects(text: str) -> Iterator[str]:
    """Yield each outermost `{…}` of `text` that is closed."""
    start = text.find("{")
    for _ in range(MAX_OBJECTS):
        if start < 0:
            return
        depth, end = 0, -1
        for token in TOKEN.finditer(text, start):
            depth += {"{": 1, "}": -1}.get(token[0], 0)
            if depth == 0:
                end = token.end()
                break
        if end > 0:
            yield text[start:end]
        # A bracket of the prose is never closed: "{x means".
        start = text.find("{", end if end > 0 else start + 1)


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
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} appears twice")
    return mapping


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
