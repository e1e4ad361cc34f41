"""What form fields and images say, as short bracketed pieces of text."""

import re
from typing import Any

from sem.dataset import text
from sem.dataset.html import words

Given = dict[str, str | None]

HIDDEN_FIELD_HINTS = frozenset(("price", "sku", "brand", "currency", "availability"))
MAX_OPTIONS = 600
MAX_LABEL = 120
MAX_TEXTAREA = 2_000
TINY = ("0", "1", "2")
SIZES = re.compile(r"\s*,\s+")
BACKGROUND = re.compile(r"background(?:-image)?\s*:[^;{}]*url\(\s*[\"']?([^\"')]{8,500})", re.I)
SOURCES = ("src", "data-src", "data-original", "data-lazy-src", "data-lazy", "data-image")


def is_hidden(attributes: Given) -> bool:
    """Return whether an element with `attributes` is not shown to anybody."""
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    style = attributes.get("style")
    if not style or ("none" not in style and "hidden" not in style):
        return False
    packed = style.replace(" ", "").lower()
    return "display:none" in packed or "visibility:hidden" in packed


def form(attributes: Given) -> str:
    """Return `form NAME ACTION method`, as far as the page says."""
    names = [
        attributes.get("id"),
        attributes.get("name"),
        attributes.get("class"),
        attributes.get("action"),
    ]
    parts = list(dict.fromkeys(text.line(name)[:60] for name in names if name))
    method = "post" if (attributes.get("method") or "").lower() == "post" else ""
    return " ".join(part for part in ("form", *parts, method) if part)


def leaf(node: Any, tag: str, attributes: Given) -> str | None:
    """Return the piece for an input, select or textarea; '' for one that says nothing.

    Else None.
    """
    if tag == "input":
        return _input(attributes)
    if tag == "select":
        return _select(node, attributes)
    if tag == "textarea":
        return _piece("textarea", {**attributes, "value": node.text()[:MAX_TEXTAREA]})
    return None


def _input(attributes: Given) -> str:
    kind = (attributes.get("type") or "text").lower()
    value = text.line(attributes.get("value") or "")[:MAX_LABEL]
    if kind == "hidden":
        name = attributes.get("name") or ""
        return f"[{name}={value}]" if value and words.hint(name) in HIDDEN_FIELD_HINTS else ""
    if kind in ("submit", "button", "reset", "image"):
        return f"[{kind} {value or attributes.get('alt') or ''}".rstrip() + "]"
    if kind in ("checkbox", "radio"):
        return f"[{kind}*]" if "checked" in attributes else f"[{kind}]"
    return _piece(kind, attributes)


def _piece(kind: str, attributes: Given) -> str:
    name = attributes.get("name") or attributes.get("id") or ""
    label = (
        attributes.get("placeholder")
        or attributes.get("aria-label")
        or attributes.get("title")
        or ""
    )
    value = attributes.get("value") or ""
    parts = dict.fromkeys(
        text.line(part) for part in (name[:60], label[:MAX_LABEL], value) if part
    )
    return "[" + " ".join((kind, *parts)) + "]"


def _select(node: Any, attributes: Given) -> str:
    options = node.css("option")
    labels = []
    for option in options[:MAX_OPTIONS]:
        label = text.line(option.text())[:MAX_LABEL]
        if label:
            labels.append(label + "*" if "selected" in option.attributes else label)
    for option in options[MAX_OPTIONS:]:
        if "selected" in option.attributes:
            labels.append(text.line(option.text())[:MAX_LABEL] + "*")
    labels = list(dict.fromkeys(labels))
    if len(options) > MAX_OPTIONS:
        labels.append(f"… {len(options)} options")
    name = text.line(attributes.get("name") or attributes.get("id") or "")[:60]
    return f"[select {name}: {', '.join(labels)}]"


def image_source(attributes: Given) -> str:
    """Return the address of the picture, not of its placeholder.

    '' when there is none worth keeping.
    """
    if attributes.get("width") in TINY or attributes.get("height") in TINY:
        return ""
    for name in SOURCES:
        value = (attributes.get(name) or "").strip()
        if value and value[0] != "#" and not words.TRACKER.search(value):
            return value
    last = SIZES.split((attributes.get("srcset") or attributes.get("data-srcset") or "").strip())[
        -1
    ]
    address = last.split(" ")[0]
    return "" if words.TRACKER.search(address) else address


def background(attributes: Given) -> str:
    """Return the address of the picture behind an element, '' for none."""
    style = attributes.get("style")
    match = BACKGROUND.search(style) if style and "url(" in style else None
    return "" if match is None or words.TRACKER.search(match[1]) else match[1].strip()


def image_element_rank(attributes: Given, hint: str, section: str) -> int:
    """Return how likely the picture is what the page is about: larger is likelier."""
    rank = {"": 2, "main": 3, "header": 1}.get(section, 0) * 10
    rank += 20 if attributes.get("itemprop") == "image" else 0
    label = f"{attributes.get('class') or ''} {attributes.get('id') or ''}".lower()
    rank += 10 if re.search(r"main|primary|hero|product|featured|large|zoom", label) else 0
    rank -= 20 if re.search(r"logo|icon|avatar|sprite|thumb|flag", label) else 0
    rank -= 10 if hint in ("related", "comments") else 0
    for name in ("width", "height"):
        size = (attributes.get(name) or "").removesuffix("px")
        if size.isdigit() and len(size) < 6:
            rank += 8 if int(size) >= 200 else -15 if int(size) < 60 else 0
    return rank
