"""Hostile, bloated HTML to the few lines that answers live in. The HTML parser's only door.

    <div class="product-price"><b>12,99 €</b></div>   ->   price: 12,99 €

A line is one block of visible text with a short address: `#` headings, `-` list items, ` | `
table cells, `word:` what a class, id or itemprop says, `(address)` of a link or image. Pure and
deterministic: same page, same options, same text. Call it through `guard`: pages bite.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sem.core import files
from sem.dataset import text
from sem.dataset.config import TaskOptions
from sem.dataset.html import facts, prune, words, worth
from sem.dataset.html.prune import Budget, Line
from sem.dataset.html.walk import Walk

VERSION = 4
CODE = ["script", "style", "svg", "template", "iframe", "math", "object", "video", "audio"]
PLACEHOLDERS = re.compile(r"\{\{|<%|\$\{")
MIN_TEMPLATE = 400
FRAME = frozenset(("header", "nav", "footer"))
DIGITS = re.compile(r"[0-9]+")
FINGERPRINT = files.sha256_json(
    {
        "version": VERSION,
        "hints": words.HINT_OF,
        "sections": words.SECTION_OF,
        "weights": worth.WEIGHTS,
    }
)[:16]


@dataclass(frozen=True)
class Simplified:
    """A page's text, and what was done to it, in numbers."""

    text: str
    language: str
    report: dict[str, int]
    template: str = ""  # 16 hex digits that pages of one layout share; '' for plain text


def simplify(
    page: str,
    options: TaskOptions | None = None,
    budget: int | None = None,
    also: Sequence[Budget] = (),
) -> Simplified:
    """The evidence in PAGE as lines of at most BUDGET characters in all, and within ALSO."""
    from selectolax.lexbor import LexborHTMLParser

    options = options or TaskOptions()
    if options.input == "text" or (options.input == "auto" and not words.HTML.search(page)):
        return _plain(page, (Budget(budget), *also))
    tree = LexborHTMLParser(page)
    root = tree.root
    language = (root.attributes.get("lang") or "") if root is not None else ""
    lines, hidden = _lines(tree, options)
    kept = prune.unique(lines)
    fitted = prune.fit(kept, (Budget(budget), *also), options)
    made = "\n".join(fitted.texts)
    report = {
        "chars_before": len(page),
        "chars_after": len(made),
        "lines": len(fitted.texts),
        "repeated_lines": len(lines) - len(kept),
        "hidden_nodes": hidden,
        **fitted.report,
    }
    return Simplified(made, language, report, _template(lines))


def _template(lines: Sequence[Line]) -> str:
    """What the frame of a page is built of, texts and numbers aside."""
    frame = {line.shape for line in lines if line.section in FRAME and line.shape}
    shapes = frame or {line.shape for line in lines if line.shape}
    return files.sha256_json(sorted({DIGITS.sub("0", s) for s in shapes}))[:16] if shapes else ""


def _plain(value: str, budgets: Sequence[Budget]) -> Simplified:
    """Text that is no HTML: spaces are normalised, nothing is left out, whatever its length."""
    made = text.normalise(value)
    over = int(not all(budget.holds([made]) for budget in budgets))
    report = {"chars_before": len(value), "chars_after": len(made), "text_over_budget": over}
    return Simplified(made, "", report)


def _lines(tree: Any, options: TaskOptions) -> tuple[list[Line], int]:
    """The lines of TREE, and how many hidden elements it has."""
    from selectolax.lexbor import LexborHTMLParser

    told = facts.lines(tree)
    templates = _templates(tree)
    tree.strip_tags(CODE)
    walk = Walk(options)
    for body in (tree.body, *(LexborHTMLParser(source).body for source in templates)):
        if body is not None:
            walk.down(body)
    return told + walk.out.lines, walk.hidden


def _templates(tree: Any) -> list[str]:
    """Markup that some blogs keep in `<script type="text/template">` until it is shown."""
    found = []
    for node in tree.css("body script[type]"):
        if (node.attributes.get("type") or "").lower() in ("text/template", "text/html"):
            source = node.text()
            if len(source) > MIN_TEMPLATE and not PLACEHOLDERS.search(source):
                found.append(source)
    return found
