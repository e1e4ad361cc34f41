"""Pages that would take a parser minutes, seen before they are parsed. Linear time."""

import re

from sem.dataset import text
from sem.dataset.config import Clean
from sem.dataset.html import words

TAG = re.compile(r"<(?:(/?)([a-zA-Z][a-zA-Z0-9:-]*)([^<>]*)>|!--)")
NOT_NESTING = words.to_set(
    "area base br col embed hr img input link meta source track wbr param p li td th tr option "
    "dt dd thead tbody tfoot colgroup caption rp rt html body head"
)
RAW_TEXT = frozenset(("script", "style", "textarea", "title", "xmp", "iframe", "noframes"))
REPLACEMENT_SHARE = 0.01


def page_fault(page: str, limits: Clean) -> str | None:
    """Return the reason to refuse `page` before it is parsed, None when it looks harmless.

    Linear time.
    """
    if page.count("\N{REPLACEMENT CHARACTER}") > max(20, REPLACEMENT_SHARE * len(page)):
        return "page_undecodable"
    depth = position = 0
    while match := TAG.search(page, position):
        position = match.end()
        closing, name, rest = match.groups()
        if name is None:
            position = text.find_raw_text_end(page, "!--", position)
            continue
        name = name.lower()
        if closing:
            depth -= depth > 0 and name not in NOT_NESTING
            continue
        if len(rest) > limits.max_attributes and len(rest.split()) > limits.max_attributes:
            return "page_attributes"
        if name in RAW_TEXT:
            position = text.find_raw_text_end(page, name, position)
        elif name not in NOT_NESTING and not rest.endswith("/"):
            depth += 1
            if depth > limits.max_depth:
                return "page_depth"
    return None
