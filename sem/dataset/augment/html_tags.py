"""A page as a row of tags and texts, read once from left to right, for edits of its source.

No parser: an edit must leave everything else of the page as it is, byte by byte, also what is
broken in it. Code, comments, forms' texts and titles are passed over whole.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sem.dataset import text
from sem.dataset.html import words

TAG = re.compile(r"<(?:(/?)([a-zA-Z][a-zA-Z0-9:-]*)((?:[^<>\"']|\"[^\"<>]*\"|'[^'<>]*')*+)>|!--)")
RAW = frozenset(text.CODE_TAGS)
VOID = words.to_set("area base br col embed hr img input link meta source track wbr param")
CLASS = re.compile(r"\sclass\s*=\s*[\"']?([^\"'>]*)", re.I)


@dataclass(frozen=True)
class Tag:
    """One start or end tag: where it stands, its name in lower case, what follows the name."""

    start: int
    end: int
    name: str
    rest: str
    is_end: bool


@dataclass
class Element:
    """A start tag with the end tag that answers it, and its place in the tree."""

    tag: Tag
    parent: "Element | None"
    # After the end tag; -1 while it is open.
    end: int = -1
    children: list["Element"] = field(default_factory=list)

    @property
    def kind(self) -> tuple[str, str]:
        """Return name and classes: siblings of one kind are likely of one rank."""
        match = CLASS.search(self.tag.rest)
        return self.tag.name, " ".join(sorted(match[1].split())) if match else ""


def scan(page: str) -> Iterator[Tag]:
    """Yield the tags of `page` in order; what stands in code, comments and titles has none."""
    position = 0
    while match := TAG.search(page, position):
        position = match.end()
        closing, name, rest = match.groups()
        if name is None:
            position = text.end_of(page, "!--", position)
            continue
        yield Tag(match.start(), match.end(), name.lower(), rest, bool(closing))
        if not closing and name.lower() in RAW and not rest.endswith("/"):
            position = text.end_of(page, name.lower(), position)


def shown_texts(page: str) -> Iterator[tuple[int, int]]:
    """Yield where text that is shown stands: between two tags, and not blank."""
    position, opened, is_body = 0, "", "<body" not in page.lower()
    for tag in scan(page):
        if is_body and opened not in RAW and page[position : tag.start].strip():
            start = position
            if "<" not in page[start : tag.start]:
                yield start, tag.start
        is_body = is_body or tag.name == "body"
        position, opened = tag.end, "" if tag.is_end else tag.name


def elements(page: str) -> list[Element]:
    """Return the elements of `page` whose end tags match, in order; an unclosed one has no end.

    An end tag closes the nearest open element of its name within 64; what it jumps over stays
    open, and so does everything that a broken page never closes.
    """
    nodes: list[Element] = []
    stack: list[Element] = []
    for tag in scan(page):
        if tag.is_end:
            _close(stack, tag)
            continue
        parent = stack[-1] if stack else None
        element = Element(tag, parent)
        nodes.append(element)
        if parent:
            parent.children.append(element)
        if tag.name in VOID or tag.rest.endswith("/"):
            element.end = tag.end
        else:
            stack.append(element)
    return nodes


def _close(stack: list[Element], tag: Tag) -> None:
    for depth in range(1, min(len(stack), 64) + 1):
        if stack[-depth].tag.name == tag.name:
            stack[-depth].end = tag.end
            del stack[-depth:]
            return


def siblings(page: str, names: frozenset[str], least: int = 3) -> list[list[Element]]:
    """Runs of at least `least` whole siblings of one kind, one of `names`, with blanks between."""
    runs: list[list[Element]] = []
    for parent in elements(page):
        last: Element | None = None
        for child in parent.children:
            is_whole = child.end >= 0 and child.tag.name in names
            if is_whole and last and _is_next(page, last, child):
                runs[-1].append(child)
            elif is_whole:
                runs.append([child])
            last = child if is_whole else None
    return sorted((r for r in runs if len(r) >= least), key=lambda run: run[0].tag.start)


def _is_next(page: str, element: Element, other: Element) -> bool:
    is_near = not page[element.end : other.tag.start].strip()
    return is_near and element.kind == other.kind


def spliced(page: str, edits: list[tuple[int, int, str]]) -> str:
    """Return `page` with every (start, end, replacement) of `edits`.

    Of two that overlap the first stays.
    """
    parts, position = [], 0
    for start, end, value in sorted(edits, key=lambda edit: edit[:2]):
        if start < position:
            continue
        parts += [page[position:start], value]
        position = end
    return "".join((*parts, page[position:]))
