"""Edits of a page's source that leave its answer as it is: what a crawler meets every day.

Each takes a Page and a random generator and gives the new source, None where it does not apply.
None is trusted: `augment` cleans the result and looks for every value again.
"""

import html
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any

from sem.dataset import text
from sem.dataset.clean import grounding
from sem.dataset.html import words

# A page as a row of tags and texts, read once from left to right, for edits of its source.
#
# No parser: an edit must leave everything else of the page as it is, byte by byte, also what is
# broken in it. Code, comments, forms' texts and titles are passed over whole.

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


def scan_tags(page: str) -> Iterator[Tag]:
    """Yield the tags of `page` in order; what stands in code, comments and titles has none."""
    position = 0
    while match := TAG.search(page, position):
        position = match.end()
        closing, name, rest = match.groups()
        if name is None:
            position = text.find_raw_text_end(page, "!--", position)
            continue
        yield Tag(match.start(), match.end(), name.lower(), rest, bool(closing))
        if not closing and name.lower() in RAW and not rest.endswith("/"):
            position = text.find_raw_text_end(page, name.lower(), position)


def shown_texts(page: str) -> Iterator[tuple[int, int]]:
    """Yield where text that is shown stands: between two tags, and not blank."""
    position, opened, is_body = 0, "", "<body" not in page.lower()
    for tag in scan_tags(page):
        if is_body and opened not in RAW and page[position : tag.start].strip():
            start = position
            if "<" not in page[start : tag.start]:
                yield start, tag.start
        is_body = is_body or tag.name == "body"
        position, opened = tag.end, "" if tag.is_end else tag.name


def parse_elements(page: str) -> list[Element]:
    """Return the elements of `page` whose end tags match, in order; an unclosed one has no end.

    An end tag closes the nearest open element of its name within 64; what it jumps over stays
    open, and so does everything that a broken page never closes.
    """
    nodes: list[Element] = []
    stack: list[Element] = []
    for tag in scan_tags(page):
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


def find_sibling_runs(page: str, names: frozenset[str], least: int = 3) -> list[list[Element]]:
    """Runs of at least `least` whole siblings of one kind, one of `names`, with blanks between."""
    runs: list[list[Element]] = []
    for parent in parse_elements(page):
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


def splice_edits(page: str, edits: list[tuple[int, int, str]]) -> str:
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


Edit = Callable[["EditablePage", random.Random], str | None]
KINDS: dict[str, Edit] = {}
MOST_EDITS = 40
MOST_GROUPS = 4
MOST_TRIES = 12


@dataclass(frozen=True)
class EditablePage:
    """The source of one page, its reference and its language; a text that is not HTML is one."""

    source: str
    reference: Any
    language: str = "en"
    is_html: bool = True


def register_page_edit(kind: str) -> Callable[[Edit], Edit]:
    """Register an edit as `kind`, as `--kind` spells it."""

    def register(edit: Edit) -> Edit:
        KINDS[kind] = edit
        return edit

    return register


SHUFFLED = words.to_set("li div article section option a")


@register_page_edit("shuffle")
def shuffle_siblings(page: EditablePage, rng: random.Random) -> str | None:
    """Siblings of one kind in another order, where none holds a value of the answer.

    Never inside `<ol>`: the order of its items says something.
    """
    if not page.is_html:
        return None
    values = [value for _, value in grounding.scalar_leaves(page.reference)]
    runs = find_sibling_runs(page.source, SHUFFLED)
    groups: list[list[Element]] = []
    for run in rng.sample(runs, min(len(runs), MOST_TRIES)):
        start, end = run[0].tag.start, run[-1].end
        is_free = all(end <= other[0].tag.start or other[-1].end <= start for other in groups)
        is_ordered = run[0].parent is not None and run[0].parent.tag.name == "ol"
        if is_free and not is_ordered and not _holds(page.source[start:end], values):
            groups.append(run)
        if len(groups) == MOST_GROUPS:
            break
    edits = [
        (old.tag.start, old.end, page.source[new.tag.start : new.end])
        for run in groups
        for old, new in zip(run, rng.sample(run, len(run)), strict=True)
    ]
    return splice_edits(page.source, edits) if edits else None


def _holds(source: str, values: list[Any]) -> bool:
    page_text = grounding.groundable_text(source)
    return any(grounding.is_grounded(value, page_text) for value in values)


OPTIONAL = words.to_set("p li td th tr option dt dd span b i em strong small font label")
STRAY = ("</b>", "</i>", "</font>", "</span>", "</p>", "</em>", "<b>", "</center>")


@register_page_edit("malform")
def break_end_tags(page: EditablePage, rng: random.Random) -> str | None:
    """End tags lost, stray or in upper case, inline tags closed in the wrong order."""
    if not page.is_html:
        return None
    tags = [tag for tag in scan_tags(page.source) if tag.name not in RAW]
    ends = [tag for tag in tags if tag.is_end and tag.name in OPTIONAL]
    if len(ends) < 2:
        return None
    edits: list[tuple[int, int, str]] = []
    for tag in rng.sample(ends, min(len(ends), 2 + min(MOST_EDITS, len(ends) // 12))):
        choice = rng.randrange(3)
        lost = "" if choice == 0 else f"</{tag.name.upper()} >"
        edits.append((tag.start, tag.end, lost if choice < 2 else f"</{tag.name}></{tag.name}>"))
    body = page.source.lower().find("<body")
    inside = [tag.end for tag in tags if tag.start > body and tag.name not in ("html", "head")]
    for spot in rng.sample(inside, min(len(inside), 2 + min(MOST_EDITS, len(inside) // 40))):
        edits.append((spot, spot, rng.choice(STRAY)))
    pairs = [(a, b) for a, b in pairwise(ends) if a.end == b.start and a.name != b.name]
    for first, second in rng.sample(pairs, min(len(pairs), 1 + len(pairs) // 20)):
        edits.append((first.start, second.end, f"</{second.name}></{first.name}>"))
    return splice_edits(page.source, edits)


NOISE = ("data-v-", "data-react-", "data-testid-", "jsname-", "ng-", "x-", "data-track-")


@register_page_edit("attributes")
def add_noise_attributes(page: EditablePage, rng: random.Random) -> str | None:
    """Attributes and classes that frameworks add, which say nothing."""
    if not page.is_html:
        return None
    tags = [t for t in scan_tags(page.source) if not t.is_end and not t.rest.endswith("/")]
    if not tags:
        return None
    edits = []
    for tag in rng.sample(tags, min(len(tags), 3 + len(tags) // 5)):
        hashed = f"{rng.getrandbits(32):08x}"
        added = f' {rng.choice(NOISE)}{hashed}="{rng.getrandbits(24):06x}"'
        if "class=" not in tag.rest.lower() and rng.random() < 0.4:
            added += f' class="css-{hashed}"'
        edits.append((tag.start + 1 + len(tag.name), tag.start + 1 + len(tag.name), added))
    return splice_edits(page.source, edits)


# Without digits, addresses, forms or headings of rank one, so that no answer can be in them.
BLOCKS = {
    "en": (
        "Sign up for our newsletter and never miss an offer again",
        "We use cookies to improve your visit. Accept all or manage settings",
        "You may also like these hand-picked ideas from our editors",
        "Free returns, secure payment, friendly service",
        "Follow us for daily inspiration and behind-the-scenes stories",
    ),
    "de": (
        "Jetzt Newsletter abonnieren und kein Angebot mehr verpassen",
        "Wir verwenden Cookies, um Ihren Besuch zu verbessern. Alle akzeptieren",
        "Das könnte Ihnen auch gefallen, ausgesucht von unserer Redaktion",
        "Kostenlose Rücksendung, sichere Zahlung, freundlicher Service",
        "Folgen Sie uns für tägliche Inspiration",
    ),
    "fr": (
        "Inscrivez-vous à notre lettre d'information",
        "Nous utilisons des cookies pour améliorer votre visite. Tout accepter",
        "Vous aimerez aussi ces idées choisies par notre équipe",
        "Retours gratuits, paiement sécurisé, service aimable",
    ),
    "es": (
        "Suscríbete a nuestro boletín y no te pierdas ninguna oferta",
        "Usamos cookies para mejorar tu visita. Aceptar todas",
        "También te puede gustar esta selección de nuestro equipo",
        "Devoluciones gratuitas, pago seguro, atención amable",
    ),
}
SHELLS = (
    '<div class="newsletter"><p>{}</p></div>',
    '<div id="cookie-banner" role="dialog"><span>{}</span></div>',
    '<section class="promo"><h4>{}</h4></section>',
    "<aside><ul><li>{}</li></ul></aside>",
)
BOUNDARIES = words.to_set("div section article main aside ul table header nav")


@register_page_edit("distract")
def add_distractions(page: EditablePage, rng: random.Random) -> str | None:
    """Blocks that every page has and no answer is in: newsletter, cookies, promises."""
    if not page.is_html:
        return None
    tags = list(scan_tags(page.source))
    spots = [tag.end for tag in tags if tag.is_end and tag.name in BOUNDARIES]
    bodies = [tag.end for tag in tags if tag.name == "body" and not tag.is_end]
    if not spots:
        return None
    lines = BLOCKS.get(page.language, BLOCKS["en"])
    block_lines = rng.sample(lines, min(len(lines), rng.randint(1, 3)))
    blocks = [rng.choice(SHELLS).format(html.escape(line, quote=False)) for line in block_lines]
    edits = [(spot, spot, block) for block in blocks for spot in [rng.choice([*bodies, *spots])]]
    return splice_edits(page.source, edits)


@register_page_edit("respell")
def respell_markup(page: EditablePage, rng: random.Random) -> str | None:
    """Entities for letters, no-break spaces, comments and line breaks between words."""
    if not page.is_html:
        return None
    edits = []
    spots = list(shown_texts(page.source))
    for start, end in rng.sample(spots, min(len(spots), 3 + len(spots) // 6)):
        value = page.source[start:end]
        at = rng.randrange(len(value))
        sign = value[at]
        if "&" in value or not (sign.isalpha() or sign == " "):
            continue
        spaces = ("&nbsp;", "\n\t", "  ", " <!-- -->")
        new = rng.choice(spaces) if sign == " " else f"&#{ord(sign)};"
        edits.append((start + at, start + at + 1, new))
    return splice_edits(page.source, edits) if edits else None


# Two decimals: `1.234` may be a thousand or one and a bit, `1.234,50` is certain.
AMOUNT = re.compile(
    r"(?<![\w.,])(?:(?P<before>[€$£])[ \u00a0]?)?"
    r"(?P<number>\d{1,3}(?:[.,]\d{3}){0,2}[.,]\d\d|\d{1,7}[.,]\d\d)(?![\w.,]\d)"
    r"(?:[ \u00a0]?(?P<after>[€$£]))?(?!\w)"
)


@register_page_edit("currency")
def restyle_prices(page: EditablePage, rng: random.Random) -> str | None:
    """Return every price of the page as another country writes it: `12,99 €` becomes `€12.99`.

    Only where the answer holds an amount of the page as a number, and no text of it holds one as
    it is written; the currency stays.
    """
    numbers = {_decimal(v) for v in _scalars(page.reference) if _is_number(v)}
    written = [v for v in _scalars(page.reference) if isinstance(v, str)]
    style = rng.randrange(3)
    spots = list(shown_texts(page.source)) if page.is_html else [(0, len(page.source))]
    edits, is_asked = [], False
    for match in (m for spot in spots for m in AMOUNT.finditer(page.source, *spot)):
        sign, amount = match["before"] or match["after"], _amount(match["number"])
        if sign is None or amount is None:
            continue
        if any(match["number"] in v or (sign in v and v.strip() != sign) for v in written):
            return None
        is_asked = is_asked or amount in numbers
        edits.append((match.start(), match.end(), _written(amount, sign, style)))
    return splice_edits(page.source, edits) if is_asked else None


def _scalars(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [scalar for inner in value for scalar in _scalars(inner)]
    return [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decimal(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value)).quantize(Decimal("0.01"))
    except InvalidOperation:
        return None


def _amount(digits: str) -> Decimal | None:
    return _decimal(f"{re.sub('[.,]', '', digits[:-3])}.{digits[-2:]}")


def _written(amount: Decimal, sign: str, style: int) -> str:
    english = f"{amount:,.2f}"
    german = english.translate(str.maketrans(",.", ".,"))
    return (f"{sign}{english}", f"{german} {sign}", f"{sign} {german}")[style]
