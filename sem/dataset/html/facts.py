"""What a page says about itself outside its body: title, meta, link relations, JSON-LD."""

import html
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sem.core import jsonio
from sem.dataset import text
from sem.dataset.html import words
from sem.dataset.html.line import Address, Line

MAX_VALUE = 1_000
MAX_LEAVES = 120
# Characters of broken linked data that are repaired: mending hostile data takes quadratic time.
MAX_BROKEN = 12_000
TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
WRAPPING = re.compile(r"(?://|/\*)?\s*(?:<!\[CDATA\[|\]\]>)\s*(?:\*/)?|<!--|-->")
ENTITY = re.compile(r"&(?:#\d{2,6}|#x[0-9a-f]{2,5}|[a-z]{2,8});", re.I)
NOT_LETTER = re.compile(r"[\W_]+")
RELATIONS = {"canonical": "link", "next": "paging", "prev": "paging", "image_src": "image"}
NOT_LD = frozenset(
    ["@context", "@id", "potentialaction", "sameas", "mainentityofpage", "query-input"]
)


def fact_lines(tree: Any) -> tuple[list[Line], dict[str, int]]:
    """Return the facts of `tree`, each value once, and how much linked data was broken."""
    lines: list[Line] = []
    keys: set[str] = set()
    counts = dict.fromkeys(("linked_data_repaired", "linked_data_unreadable"), 0)
    for name, value in _all(tree, counts):
        content = text.line(_decoded(value))[:MAX_VALUE]
        # Punctuation aside: a title is told with `|` here and with `-` there.
        key = NOT_LETTER.sub("", content.casefold()) or content
        if content and key not in keys:
            keys.add(key)
            lines.append(_line(name, content))
    return lines, {name: number for name, number in counts.items() if number}


def _decoded(value: str) -> str:
    """Return `value` with its entities resolved, which many pages encode twice: `&amp;amp;`."""
    for _ in range(2):
        if "&" not in value or not ENTITY.search(value):
            break
        value = html.unescape(value)
    return value


def _line(name: str, value: str) -> Line:
    if name in RELATIONS:
        return Line("fact", (f"{name}:", Address(RELATIONS[name], value)), hint=name)
    if "image" in name.lower() and "/" in value:
        return Line("fact", (f"{name}:", Address("meta image", value)), hint="image")
    return Line("fact", (f"{name}: {value}",), hint=words.hint(name))


def _all(tree: Any, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    title = tree.css_first("head > title")
    if title is not None:
        yield "title", title.text()
    yield from _metas(tree)
    for node in tree.css("link[rel][href]"):
        relation = (node.attributes.get("rel") or "").lower()
        if relation in RELATIONS:
            yield relation, node.attributes.get("href") or ""
    for node in tree.css("script[type]"):
        if (node.attributes.get("type") or "").strip().lower() == "application/ld+json":
            yield from _linked_data(node.text(), counts)


def _metas(tree: Any) -> Iterator[tuple[str, str]]:
    for node in tree.css("meta"):
        attributes = node.attributes
        # Microdata within the body is told where it stands.
        name = attributes.get("property") or attributes.get("name") or ""
        if words.META.search(name) and not words.NOT_META.search(name):
            yield (
                name.removeprefix("og:").removeprefix("twitter:"),
                attributes.get("content") or attributes.get("value") or "",
            )


def _linked_data(source: str, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    source = source.strip().removeprefix("<!--").removesuffix("-->")
    if not source:
        return
    try:
        value = jsonio.parse_json(source)
    except ValueError:
        value = _repaired(source)
        is_readable = isinstance(value, dict | list) and bool(value)
        counts["linked_data_repaired" if is_readable else "linked_data_unreadable"] += 1
    yield from islice(_leaves(value, ""), MAX_LEAVES)


def _repaired(source: str) -> Any:
    """Return the value of `source`, which is no JSON.

    Trailing commas, comments, raw line breaks, …
    """
    from json_repair import repair_json

    source = WRAPPING.sub("", source)
    if "&quot;" in source or "&#34;" in source:
        source = html.unescape(source)
    start = min((n for n in map(source.find, "[{") if n >= 0), default=-1)
    if start < 0:
        return None
    source = source[start:].rstrip().rstrip(";").rstrip()
    for spelled in (source, TRAILING_COMMA.sub("", source)):
        try:
            return json.loads(spelled, strict=False)
        except (ValueError, RecursionError):
            continue
    try:
        return repair_json(source[:MAX_BROKEN], return_objects=True, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.lower() == "@type" and isinstance(inner, str):
                yield f"{path}@type" if path else "@type", inner
            elif key.lower() not in NOT_LD:
                name = path if key == "@graph" else f"{path}.{key}".lstrip(".")
                yield from _leaves(inner, name)
    elif isinstance(value, list):
        for inner in value[:40]:
            yield from _leaves(inner, path)
    elif value is not None and value != "":
        yield path, str(value)
