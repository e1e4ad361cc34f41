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
from sem.dataset.html import boilerplate, facts, prune, words, worth
from sem.dataset.html.line import Line
from sem.dataset.html.prune import Budget
from sem.dataset.html.walk import Walk

VERSION = 4
CODE = ["script", "style", "template", "iframe", "math", "object", "video", "audio"]
# Text is drawn in an SVG now and then: prices, charts, seals. Other drawings are dropped whole.
DRAWN_TEXT = re.compile(r"<(?:text|foreignObject)[\s>]", re.I)
SHADOW = re.compile(r"<(/?)template\b([^<>]*)>", re.I)
IS_SHADOW = re.compile(r"\bshadowroot(?:mode)?\s*=", re.I)
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
    # 16 hex digits that pages of one layout share; '' for plain text.
    template: str = ""


def simplify(
    page: str,
    options: TaskOptions | None = None,
    budget: int | None = None,
    also: Sequence[Budget] = (),
) -> Simplified:
    """Return the evidence in `page` as lines of at most `budget` characters in all, and within
    `also`.
    """
    options = options or TaskOptions()
    if options.input == "text" or (options.input == "auto" and not words.HTML.search(page)):
        return _plain(page, (Budget(budget), *also), options)
    lines, language, counts = read_lines(page, options)
    rest = boilerplate.drop_repeats(lines)
    fitted = prune.prune_lines(rest, (Budget(budget), *also), options)
    output = "\n".join(fitted.texts)
    report = {
        "chars_before": len(page),
        "chars_after": len(output),
        "lines": len(fitted.texts),
        "repeated_lines": len(lines) - len(rest),
        **counts,
        **fitted.report,
    }
    return Simplified(output, language, report, _template(lines))


def _template(lines: Sequence[Line]) -> str:
    """Return what the frame of a page is built of, texts and numbers aside."""
    frame = {line.shape for line in lines if line.section in FRAME and line.shape}
    shapes = frame or {line.shape for line in lines if line.shape}
    return files.sha256_json(sorted({DIGITS.sub("0", s) for s in shapes}))[:16] if shapes else ""


def _plain(value: str, budgets: Sequence[Budget], options: TaskOptions) -> Simplified:
    """Text that is no HTML: spaces are normalised; over a budget its lines are ranked too."""
    output = text.normalise(value)
    report = {"over_budget": 0, "pruned_lines": 0, "cut_lines": 0}
    if not all(budget.holds([output]) for budget in budgets):
        lines = [Line("plain", (line,)) for line in output.split("\n") if line]
        fitted = prune.prune_lines(lines, budgets, options)
        output, report = "\n".join(fitted.texts), fitted.report
    return Simplified(
        output, "", {"chars_before": len(value), "chars_after": len(output), **report}
    )


def _with_shadows(page: str) -> str:
    """Return `page` with its declarative shadow roots as elements.

    Browsers show what is in them.
    """
    if "shadowroot" not in page:
        return page
    parts, open_, last = [], [], 0
    for match in SHADOW.finditer(page):
        is_end, attributes = match.groups()
        if not is_end:
            open_.append(IS_SHADOW.search(attributes) is not None)
        is_shadow = bool(open_) and (open_.pop() if is_end else open_[-1])
        if is_shadow:
            # Not a div: that would end a paragraph it stands in.
            parts += [page[last : match.start()], f"<{is_end}shadow-root>"]
            last = match.end()
    return "".join((*parts, page[last:]))


def read_lines(page: str, options: TaskOptions) -> tuple[list[Line], str, dict[str, int]]:
    """Return the lines of `page` before any is left out, its language and what was counted."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(_with_shadows(page))
    root = tree.root
    language = (root.attributes.get("lang") or "") if root is not None else ""
    fact_lines, counts = facts.fact_lines(tree)
    templates = _templates(tree)
    if DRAWN_TEXT.search(page):
        for node in tree.css(words.UNDRAWN):
            node.decompose()
        tree.strip_tags(CODE)
    else:
        tree.strip_tags([*CODE, "svg"])
    walk = Walk(options)
    for body in (tree.body, *(LexborHTMLParser(source).body for source in templates)):
        if body is not None:
            walk.down(body)
    return fact_lines + walk.out.lines, language, {"hidden_nodes": walk.hidden, **counts}


def _templates(tree: Any) -> list[str]:
    """Markup that some blogs keep in `<script type="text/template">` until it is shown."""
    sources = []
    for node in tree.css("body script[type]"):
        if (node.attributes.get("type") or "").lower() in ("text/template", "text/html"):
            source = node.text()
            if len(source) > MIN_TEMPLATE and not PLACEHOLDERS.search(source):
                sources.append(source)
    return sources
