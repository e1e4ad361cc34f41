"""What a page says about itself outside its body: title, meta, link relations, JSON-LD."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sem.core import jsonio
from sem.dataset import text
from sem.dataset.html import words
from sem.dataset.html.prune import Address, Line

MAX_VALUE = 1_000
MAX_LEAVES = 120
RELATIONS = {"canonical": "link", "next": "paging", "prev": "paging", "image_src": "image"}
NOT_LD = frozenset(
    ["@context", "@id", "potentialaction", "sameas", "mainentityofpage", "query-input"]
)


def lines(tree: Any) -> list[Line]:
    """The facts of TREE, each value once."""
    made: list[Line] = []
    seen: set[str] = set()
    for name, value in _all(tree):
        shown = text.line(value)[:MAX_VALUE]
        key = shown.casefold()
        if shown and key not in seen:
            seen.add(key)
            made.append(_line(name, shown))
    return made


def _line(name: str, value: str) -> Line:
    if name in RELATIONS:
        return Line("fact", (f"{name}:", Address(RELATIONS[name], value)), hint=name)
    if "image" in name.lower() and "/" in value:
        return Line("fact", (f"{name}:", Address("meta image", value)), hint="image")
    return Line("fact", (f"{name}: {value}",), hint=words.hint(name))


def _all(tree: Any) -> Iterator[tuple[str, str]]:
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
            yield from _linked_data(node.text())


def _metas(tree: Any) -> Iterator[tuple[str, str]]:
    for node in tree.css("meta"):
        given = node.attributes
        # Microdata within the body is told where it stands.
        name = given.get("property") or given.get("name") or ""
        if words.META.search(name) and not words.NOT_META.search(name):
            yield (
                name.removeprefix("og:").removeprefix("twitter:"),
                given.get("content") or given.get("value") or "",
            )


def _linked_data(source: str) -> Iterator[tuple[str, str]]:
    try:
        value = jsonio.loads(source.strip().removeprefix("<!--").removesuffix("-->"))
    except ValueError:
        return
    yield from islice(_leaves(value, ""), MAX_LEAVES)


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
