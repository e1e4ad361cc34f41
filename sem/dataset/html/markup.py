"""Hostile, bloated HTML to the few lines that answers live in. The HTML parser's only door.

    <div class="product-price"><b>12,99 €</b></div>   ->   price: 12,99 €

A line is one block of visible text with a short address: `#` headings, `-` list items, ` | `
table cells, `word:` what a class, id or itemprop says, `(address)` of a link or image. Pure and
deterministic: same page, same options, same text. Call it in a sandbox: pages bite.
"""

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sem.core import files, jsonio
from sem.dataset import text
from sem.dataset.config import TaskOptions
from sem.dataset.html import prune, traits, words
from sem.dataset.html.line import Address, PageLine
from sem.dataset.html.prune import PageBudget
from sem.dataset.html.walk import Walk

# What a page says about itself outside its body: title, meta, link relations, JSON-LD.

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


def fact_lines(tree: Any) -> tuple[list[PageLine], dict[str, int]]:
    """Return the facts of `tree`, each value once, and how much linked data was broken."""
    lines: list[PageLine] = []
    keys: set[str] = set()
    counts = dict.fromkeys(("linked_data_repaired", "linked_data_unreadable"), 0)
    for name, value in _all(tree, counts):
        content = text.single_line(_decoded(value))[:MAX_VALUE]
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


def _line(name: str, value: str) -> PageLine:
    if name in RELATIONS:
        return PageLine("fact", (f"{name}:", Address(RELATIONS[name], value)), hint=name)
    if "image" in name.lower() and "/" in value:
        return PageLine("fact", (f"{name}:", Address("meta image", value)), hint="image")
    return PageLine("fact", (f"{name}: {value}",), hint=words.hint_of_label(name))


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
    """Return the value of `source`, which is not JSON.

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


# Lines that a page repeats without saying anything new: menus, controls, small print.

FRAME_SECTIONS = frozenset(("header", "footer", "aside"))
# What pages say again and again to be clicked on; no fact of any record.
BOILERPLATE = re.compile(
    r"(?:\[?(?:submit|button)\b[^\]]*\]|[-–•»›→+ ]*(?:(?:add|save|move) to (?:cart|basket|bag|"
    r"wish ?list|favou?rites|compare)|(?:in den warenkorb|ajouter au panier|añadir al carrito|"
    r"aggiungi al carrello|in winkelwagen|do koszyka|dodaj do koszyka|добавить в корзину|"
    r"в корзину|купить|カートに入れる|加入购物车)|(?:buy|shop|order|book)(?: it)? now|"
    r"read (?:more|on)|continue reading|learn more|(?:show|view|see|load)(?: all| more| details)|"
    r"weiterlesen|mehr(?: lesen| erfahren)?|lire (?:la suite|plus)|leer más|leggi tutto|"
    r"lees (?:meer|verder)|czytaj więcej|подробнее|more(?: info(?:rmation)?| details)?|"
    r"quick (?:view|look|shop)|select options|choose options|reply|share(?: this)?|tweet|pin it|"
    r"print|report|permalink|edit|back to top|go to top|top|close|loading|advertisement|anzeige|"
    r"skip to (?:main )?content)[ .…»›→↑]*(?:\[button\])?)",
    re.I,
)


def drop_repeats(lines: Sequence[PageLine]) -> list[PageLine]:
    """Return `lines` less empty ones and repeats of navigation and boilerplate.

    Two people may have the same role, two branches the same hours: what a page says of a record
    stays, however often it says the same of others.
    """
    rest, texts = [], set()
    for line in lines:
        text = line.render()
        if text and (text not in texts or not _is_boilerplate(line, text)):
            texts.add(text)
            rest.append(line)
    return rest


def _is_boilerplate(line: PageLine, text: str) -> bool:
    if line.kind == "field":
        return False
    if line.section == "nav" or line.kind == "fact":
        return True
    if line.section in FRAME_SECTIONS and (line.is_linked or traits.is_legal(text)):
        return True
    return BOILERPLATE.fullmatch(text) is not None or not any(map(str.isalnum, text))


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
        "weights": prune.WEIGHTS,
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


def simplify_page(
    page: str,
    options: TaskOptions | None = None,
    budget: int | None = None,
    also: Sequence[PageBudget] = (),
) -> Simplified:
    """Return the evidence in `page` as lines of at most `budget` characters in all, and within
    `also`.
    """
    options = options or TaskOptions()
    if options.input == "text" or (options.input == "auto" and not words.HTML.search(page)):
        return _plain(page, (PageBudget(budget), *also), options)
    lines, language, counts = read_lines(page, options)
    rest = drop_repeats(lines)
    fitted = prune.prune_lines(rest, (PageBudget(budget), *also), options)
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


def _template(lines: Sequence[PageLine]) -> str:
    """Return what the frame of a page is built of, texts and numbers aside."""
    frame = {line.shape for line in lines if line.section in FRAME and line.shape}
    shapes = frame or {line.shape for line in lines if line.shape}
    return files.sha256_json(sorted({DIGITS.sub("0", s) for s in shapes}))[:16] if shapes else ""


def _plain(value: str, budgets: Sequence[PageBudget], options: TaskOptions) -> Simplified:
    """Text that is not HTML: spaces are normalised; over a budget its lines are ranked too."""
    output = text.normalise_text(value)
    report = {"over_budget": 0, "pruned_lines": 0, "cut_lines": 0}
    if not all(budget.holds([output]) for budget in budgets):
        lines = [PageLine("plain", (line,)) for line in output.split("\n") if line]
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


def _parsed(source: str) -> Any:
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    try:
        return LexborHTMLParser(source)
    except SelectolaxError as error:
        # Lexbor takes any markup: "Can't parse HTML." is its want of memory.
        raise MemoryError(str(error)) from error


def read_lines(page: str, options: TaskOptions) -> tuple[list[PageLine], str, dict[str, int]]:
    """Return the lines of `page` before any is left out, its language and what was counted."""
    tree = _parsed(_with_shadows(page))
    root = tree.root
    language = (root.attributes.get("lang") or "") if root is not None else ""
    head_lines, counts = fact_lines(tree)
    templates = _templates(tree)
    if DRAWN_TEXT.search(page):
        for node in tree.css(words.UNDRAWN):
            node.decompose()
        tree.strip_tags(CODE)
    else:
        tree.strip_tags([*CODE, "svg"])
    walk = Walk(options)
    for body in (tree.body, *(_parsed(source).body for source in templates)):
        if body is not None:
            walk.down(body)
    return head_lines + walk.out.lines, language, {"hidden_nodes": walk.hidden, **counts}


def _templates(tree: Any) -> list[str]:
    """Markup that some blogs keep in `<script type="text/template">` until it is shown."""
    sources = []
    for node in tree.css("body script[type]"):
        if (node.attributes.get("type") or "").lower() in ("text/template", "text/html"):
            source = node.text()
            if len(source) > MIN_TEMPLATE and not PLACEHOLDERS.search(source):
                sources.append(source)
    return sources
