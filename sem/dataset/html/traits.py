"""What is known of each line of a page, in the words of the table of weights (see `worth`)."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from sem.dataset.html import words
from sem.dataset.html.line import Address, PageLine

MONEY = re.compile(r"[$€£¥₹₽]\s?\d|\d\s?(?:[$€£¥₹₽]|(?:EUR|USD|GBP|kr|zł|Kč|руб|SEK|CHF)\b)")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w")
# Searched in lower case.
CALL = re.compile(r"\+?\(?\d[\d\s()./-]{7,}\d|\b(?:tel|fax|phone)\b")
CALLED = ("tel", "fax", "phone")
LEGAL_WORDS = (
    *("cookie", "privacy", "datenschutz", "terms of", "all rights reserved", "javascript", "©"),
    *("copyright", "newsletter", "login", "log in", "sign in", "sign up", "subscribe"),
    *("share on", "follow us", "facebook", "twitter", "pinterest", "instagram"),
)
DIGIT = re.compile(r"\d")
# These are searched in lower case: letters of either case take an expression three times as long.
STREET = re.compile(
    r"\b(?:street|st|road|rd|avenue|ave|blvd|drive|dr|lane|suite|floor|po box|p\.o\.|straat|"
    r"platz|weg|rue|via|calle|plaza|highway|hwy|building|house)\b|str(?:aße|asse|\.)",
)
POSTCODE = re.compile(
    r"\b\d{5}(?:-\d{4})?\b|\b[A-Z]{1,2}\d[\dA-Z]? ?\d[A-Z]{2}\b|\b\d{4} ?[A-Z]{2}\b"
)
DURATION = re.compile(r"\d\s?(?:min|mins|minutes?|minuten|hours?|hrs?|h|std|stunden?)\b")
DAY = re.compile(
    r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mai|okt|dez)[a-zé]{0,6}\.? \d|"
    r"\b\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d\d\b|\b(?:19|20)\d\d-\d\d-\d\d|"
    r"\d\.? (?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)",
)
AMOUNT = re.compile(
    r"(?:\d[\d/.,–-]*|[½¼¾⅓⅔⅛])\s?(?:[½¼¾⅓⅔⅛]\s?)?(?:cups?|c\.|tsps?|tbsps?|tea|table|oz|ounces?|"
    r"pounds?|lbs?|g|kg|gr|grams?|grammes?|ml|cl|dl|l|litres?|cloves?|cans?|pinch|large|medium|"
    r"small|slices?|el|tl|stück|cucchiai|spsk|tsk|msk|krm|eetlepels?|theelepels?|sticks?|bunch|"
    r"packages?|pkg|sprigs?|whole)\b",
)
BYLINE = re.compile(r"(?:written |posted |recipe )?(?:by|von|par|por|di|door|av)\b[: ]\s?\w", re.I)
LABELLED = re.compile(r"[^:|]{2,30}:\s\S")
# Names stand in capitals behind other words: `the office of Ann Lee in Bonn`, not `The office`.
NAMED = re.compile(r"(?<=[\w,;] )[A-ZÀ-ÖØ-ÞΑ-ΩА-Я][\w’'-]+")
SEPARATOR = re.compile(r"[,;|/•·]\s?")
# Parts of a text that may be a list.
MIN_LISTED = 4
# That one of them has at most.
LISTED_CHARS, LISTED_SPACES = 40, 4
MIN_LISTED_SHARE = 0.75
# A page of this name is about people and places, however few telephone numbers it holds.
CONTACT_NAMES = re.compile(
    r"\b(?:contacts?|kontakt|contacto|contatti|about|über uns|impressum|team|locations?|offices?|"
    r"directory|staff|people|management|directions|support|customer service)\b",
    re.I,
)
TITLE_PARTS = re.compile(r" [|–—»:·-]+ |: ")
# Titles and first-level headings that are read for a name of a page.
TITLES = 3
MAX_NAME_WORDS = 4
BUTTONS = re.compile(r"\[(?:submit|button|image|reset)\b|\[button\]")
SENTENCE = re.compile(r"[.!?。…][\"'”’)]?\Z")
TITLE_WORD = re.compile(r"[^\W_]{3,}")
# Lines since the first `# ` heading, or from the start of the page, and what that is called.
AFTER = ((9, "title: at"), (26, "title: near"), (71, "title: after"), (151, "title: far after"))
FROM_START = ((40, "start: near"), (150, "start: after"))
REPEATS = ((3, "repeat: few"), (12, "repeat: some"), (30, "repeat: many"))
GROUPS = ((2, "group: one"), (7, "group: few"), (20, "group: some"), (50, "group: many"))
SIZES = ((2, "words: 1"), (4, "words: 3"), (9, "words: 8"), (21, "words: 20"))
# Lines below a heading that it is still about.
UNDER = 60
# Lines to either side whose links are counted.
AROUND = 4
MIN_SHARED = 0.5
HEADINGS = {
    "contact": "contact contacts kontakt contacto contatti contactez contacteer",
    "comments": "comments comment kommentare responses replies commentaires reacties",
    "related": "related similar popular recent trending recommended more latest also posts "
    "products articles ähnliche weitere",
    "about": "about über team",
    "location": "location locations office offices address visit directions anfahrt standorte",
    "notes": "notes note tips tip",
}
HEADING_OF = {word: name for name, spelled in HEADINGS.items() for word in spelled.split()}
# What a page is about, by how many of its lines have one of these traits; the first that fits.
PAGE_KINDS = (
    (
        "recipe",
        4,
        frozenset(
            (
                "hint: ingredients",
                "hint: instructions",
                "under: ingredients",
                "under: instructions",
            )
        ),
    ),
    ("recipe", 5, frozenset(("amount",))),
    ("contact", 1, frozenset(("names a contact page",))),
    ("listing", 1, frozenset(("pages", "hint: pager", "hint: next"))),
    ("product", 1, frozenset(("hint: price", "hint: sku", "hint: old price"))),
    ("contact", 4, frozenset(("contact", "street", "postcode"))),
)


def context_traits(lines: Sequence[PageLine], texts: Sequence[str]) -> list[list[str]]:
    """Return for each of `lines`, shown as `texts`, what follows from where it stands."""
    top = next((n for n, text in enumerate(texts) if text.startswith("# ")), None)
    best = max(
        (rank for line in lines if (rank := line_image_rank(line)) is not None), default=None
    )
    groups = Counter(line.shape for line in lines if line.kind != "fact" and line.shape)
    times = Counter(text for text in texts if text)
    title = _title(lines, texts, top)
    around = _links_around(lines)
    naming = _naming(lines, texts)
    shapes: Counter[str] = Counter()
    earlier: set[str] = set()
    before, heading, below = None, "", 0
    traits_by_line = []
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        traits = [f"kind: {line.kind}", f"section: {line.section}", f"hint: {line.hint}"]
        traits += _addressed(line, best)
        if line.kind == "fact":
            traits.append(f"fact: {_fact(text)}")
        else:
            traits.append(_stands(number, top))
            traits.append(around[number])
            shapes[line.shape] += 1
            if line.shape:
                traits.append(_name(shapes[line.shape] - 1, REPEATS, "repeat: endless"))
                traits.append(_name(groups[line.shape], GROUPS, "group: endless"))
                if (line.kind, line.shape) == before:
                    traits.append("like the line before")
            if line.kind == "heading":
                heading, below = _heading(text), 0
            elif heading and below <= UNDER:
                traits.append(f"under: {heading}")
            below += 1
        if line.is_linked:
            traits.append("linked")
        if times[text] > 1:
            traits.append("again" if text in earlier else "said often")
            if line.kind == "field" and text in earlier:
                traits.append("field again")
            earlier.add(text)
        if number == naming:
            traits.append("names a contact page")
        if title and line.kind != "fact" and _shares(text, title):
            traits.append("like the title")
        before = (line.kind, line.shape)
        traits_by_line.append(traits)
    return traits_by_line


def page_kind(traits_by_line: Sequence[Sequence[str]]) -> str:
    """Return what a page is about (see PAGE_KINDS), by the traits of all its lines."""
    counts = Counter(trait for line in traits_by_line for trait in line)
    for name, least, traits in PAGE_KINDS:
        if sum(counts[trait] for trait in traits) >= least:
            return name
    return "other"


def text_traits(text: str) -> Iterator[str]:
    """Yield what `text` says of itself."""
    if text.startswith("#"):
        yield f"level: {text.partition(' ')[0]}"
    elif text.startswith("title: "):
        yield "level: title"
    lowered = text.lower()
    has_digit = DIGIT.search(text) is not None
    if has_contact(text, lowered, has_digit):
        yield "contact"
    if has_digit:
        yield "money" if MONEY.search(text) else "digit"
        if POSTCODE.search(text):
            yield "postcode"
        if DURATION.search(lowered):
            yield "duration"
        if DAY.search(lowered):
            yield "day"
        if AMOUNT.search(lowered, 0, 60):
            yield "amount"
    if _holds(LEGAL_WORDS, lowered):
        yield "legal"
    if STREET.search(lowered):
        yield "street"
    if BUTTONS.search(text):
        yield "button"
    if LABELLED.match(text):
        yield "labelled"
    if BYLINE.match(text.lstrip("#- ")):
        yield "byline"
    count = text.count(" ") + 1
    yield _name(count, SIZES, "words: many")
    yield from _enumerated(text, count)
    if SENTENCE.search(text):
        yield "sentence"


def has_contact(text: str, lowered: str, has_digit: bool = True) -> bool:
    """Return True if `text` holds an e-mail address, what could be a number, or its label."""
    # Plain signs first: most texts hold none, and an expression takes ten times as long.
    if "@" in text and EMAIL.search(text):
        return True
    return (has_digit or _holds(CALLED, lowered)) and CALL.search(lowered) is not None


def _enumerated(text: str, count: int) -> Iterator[str]:
    """Yield whether `text` of `count` words names people and places, and whether it lists."""
    bare = text.lstrip("#- ")
    if names := len(NAMED.findall(bare)):
        is_most = names * 2 >= count - (bare != text)
        yield "names: many" if names >= 6 else "names: most" if is_most else "names: some"
    parts = SEPARATOR.split(text)
    if len(parts) >= MIN_LISTED:
        short = sum(
            1 <= len(part) <= LISTED_CHARS and part.count(" ") <= LISTED_SPACES for part in parts
        )
        if short >= MIN_LISTED_SHARE * len(parts):
            yield "list: many" if len(parts) >= 2 * MIN_LISTED else "list: few"


def is_legal(text: str) -> bool:
    """Return True if `text` is small print or leads to accounts and networks."""
    return _holds(LEGAL_WORDS, text.lower())


def _holds(spelled: tuple[str, ...], lowered: str) -> bool:
    """Return True if one of the words `spelled` is in `lowered`."""
    # A loop: a generator would take most of the time of a line.
    for word in spelled:  # noqa: SIM110
        if word in lowered:
            return True
    return False


def line_image_rank(line: PageLine) -> int | None:
    """Return the best rank of the images of `line`, None without one."""
    ranks = (
        part.rank for part in line.parts if isinstance(part, Address) and part.kind == "image"
    )
    return max(ranks, default=None)


def _fact(text: str) -> str:
    """Return the last word of a fact's name: `image` of `offers.image: …`."""
    name = text.partition(":")[0].rpartition(".")[2].strip().lower()
    return name if len(name) <= 20 else "other"


def _title(lines: Sequence[PageLine], texts: Sequence[str], top: int | None) -> frozenset[str]:
    """Return the words of the page's title: of its first heading and of what its head says."""
    titles = [
        text
        for line, text in zip(lines, texts, strict=True)
        if line.kind == "fact" and text.startswith("title: ")
    ][:2]
    if top is not None:
        titles.append(texts[top])
    return frozenset(word for text in titles for word in TITLE_WORD.findall(text.casefold()))


def _naming(lines: Sequence[PageLine], texts: Sequence[str]) -> int | None:
    """Return the first title or heading that names a contact page, None without one."""
    titles = 0
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        is_title = line.kind == "fact" and text.startswith("title: ")
        if is_title or text.startswith("# "):
            titles += 1
            parts = TITLE_PARTS.split(text.removeprefix("title: ").lstrip("# "))
            short = (part for part in parts if len(part.split()) <= MAX_NAME_WORDS)
            if any(map(CONTACT_NAMES.search, short)):
                return number
        if titles == TITLES:
            break
    return None


def _shares(text: str, title: frozenset[str]) -> bool:
    """Return True if at least half of the words of `text` are in `title`."""
    text_words = TITLE_WORD.findall(text[:200].casefold())
    return bool(text_words) and sum(word in title for word in text_words) >= MIN_SHARED * len(
        text_words
    )


def _links_around(lines: Sequence[PageLine]) -> list[str]:
    """Return how many of the lines about each line are links."""
    sums = [0]
    for line in lines:
        sums.append(sums[-1] + (line.is_linked or line.kind == "field"))
    last = len(lines)
    traits = []
    for number, line in enumerate(lines):
        low, high = max(0, number - AROUND), min(last, number + AROUND + 1)
        linked = sums[high] - sums[low] - (line.is_linked or line.kind == "field")
        share = linked / max(1, high - low - 1)
        steps = ((0.01, "around: text"), (0.5, "around: mixed"), (0.95, "around: links"))
        traits.append(_name(share, steps, "around: only links"))
    return traits


def _heading(text: str) -> str:
    """Return what a heading announces, '' when nothing known."""
    spelled = text.lstrip("# ").casefold()
    if len(spelled) > 60:
        return "other"
    for word in words.label_words(spelled):
        if name := words.HINT_OF.get(word) or HEADING_OF.get(word):
            return name
    return "other"


def _addressed(line: PageLine, best: int | None) -> Iterator[str]:
    kinds = [part.kind for part in line.parts if isinstance(part, Address)]
    if not kinds:
        return
    if "link" in kinds:
        yield "link"
    if pages := kinds.count("paging"):
        yield "pages" if pages > 2 else "page"
    if "contact" in kinds:
        yield "contact address"
    if "meta image" in kinds:
        yield "image: told"
    rank = line_image_rank(line)
    if rank is not None:
        yield "image: best" if rank == best else "image: other"


def _stands(number: int, top: int | None) -> str:
    if top is None:
        return _name(number, FROM_START, "start: far after")
    if number < top:
        return "title: far before" if top - number > 40 else "title: before"
    return _name(number - top, AFTER, "title: end")


def _name(number: float, steps: Sequence[tuple[float, str]], last: str) -> str:
    """Return the name of the first of `steps` that `number` is below."""
    for below, name in steps:
        if number < below:
            return name
    return last
