"""Fit a page into a budget by leaving out its least informative lines, never its end."""

import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sem.dataset.config import TaskOptions
from sem.dataset.html import worth

MONEY = re.compile(r"[$€£¥₹₽]\s?\d|\d\s?(?:[$€£¥₹₽]|(?:EUR|USD|GBP|kr|zł|Kč|руб|SEK|CHF)\b)")
CONTACT = re.compile(r"[\w.+-]+@[\w-]+\.\w|\+?\(?\d[\d\s()./-]{7,}\d|\b(?:tel|fax|phone)\b", re.I)
LEGAL = re.compile(
    r"cookie|privacy|datenschutz|terms of|all rights reserved|javascript|©|copyright|newsletter|"
    r"log ?in|sign (?:in|up)|subscribe|share on|follow us|facebook|twitter|pinterest|instagram",
    re.I,
)
DIGIT = re.compile(r"\d")
AMOUNT = 16
IMAGES = 3  # addresses of images that a page over its budget keeps: 40 tokens each
SHORTEST = 8  # characters: what is shorter costs as much
TOLD = 12  # letters from which on a text that a kept line holds is said twice
NOT_LETTER = re.compile(r"[\W_]+")
# Lines since the first `# ` heading, or from the start of the page, and what that is called.
AFTER = ((9, "title: at"), (26, "title: near"), (71, "title: after"), (151, "title: far after"))
FROM_START = ((40, "start: near"), (150, "start: after"))
REPEATS = ((3, "repeat: few"), (12, "repeat: some"), (30, "repeat: many"))
LINK = frozenset({"link"})
PAGING = frozenset({"paging"})
SHAPE_WORDS = re.compile(r"[^\W\d_]{2,}")

Size = Callable[[str], int]


@dataclass(frozen=True)
class Budget:
    """How much a page may take, in what SIZE counts: characters, or tokens of a model."""

    limit: int | None = None
    size: Size = len

    def holds(self, texts: Sequence[str]) -> bool:
        """Whether TEXTS, as lines of one text, are within it."""
        return self.limit is None or self.size("\n".join(texts)) <= self.limit


@dataclass(frozen=True)
class Address:
    """Where a link or image points: kind is link, paging, contact, image or meta image."""

    kind: str
    value: str
    rank: int = 0

    def __str__(self) -> str:
        return f" ({self.value})"


@dataclass(frozen=True)
class Line:
    """One block of a page; its parts are text and addresses."""

    kind: str
    parts: tuple[str | Address, ...]
    section: str = ""
    hint: str = ""
    shape: str = ""  # tag and class of the element, to see cards repeat
    prefix: str = ""  # `# `, `- `
    label: str = ""  # the hint, where it is shown
    mark: int = 0  # which element the hint comes from
    depth: int = 0  # how deep that element is

    def render(self, form: str = "lines") -> str:
        shown = "".join(str(part) for part in self.parts).strip()
        if not shown or form == "lines":
            return f"{self.prefix}{self.label}{shown}" if shown else ""
        return f"{self.address} | {shown}"

    @property
    def address(self) -> str:
        """Where the line stood: `main>div.product price`, the names as the page spells them."""
        tag, _, label = self.shape.partition(".")
        names = " ".join(SHAPE_WORDS.findall(label)[:3])
        tag = f"h{len(self.prefix) - 1}" if self.prefix.startswith("#") else tag or self.kind
        return f"{self.section or 'main'}>{tag}{'.' if names else ''}{names}"

    def __len__(self) -> int:
        return sum(len(part if isinstance(part, str) else part.value) for part in self.parts)

    def without(self, kinds: frozenset[str]) -> "Line":
        """This line less its addresses of KINDS."""
        if not self.has(kinds):
            return self
        left = tuple(p for p in self.parts if isinstance(p, str) or p.kind not in kinds)
        return replace(self, parts=left)

    def has(self, kinds: frozenset[str]) -> bool:
        return any(isinstance(part, Address) and part.kind in kinds for part in self.parts)


@dataclass(frozen=True)
class Fitted:
    """The lines that stay, in page order, and how many went."""

    texts: list[str]
    report: dict[str, int] = field(default_factory=dict)


def unique(lines: Sequence[Line]) -> list[Line]:
    """LINES less empty ones and exact repeats.

    Form fields may repeat, their order is a fact; so may short amounts such as `2 cups`.
    """
    kept, seen = [], set()
    for line in lines:
        shown = line.render()
        if shown and (shown not in seen or _may_repeat(line, shown)):
            seen.add(shown)
            kept.append(line)
    return kept


def _may_repeat(line: Line, shown: str) -> bool:
    is_amount = len(shown) <= AMOUNT and any(c.isdigit() for c in shown)
    return line.kind == "field" or (is_amount and line.section in ("", "main"))


def fit(lines: Sequence[Line], budgets: Sequence[Budget], options: TaskOptions) -> Fitted:
    """LINES within BUDGETS: images beyond the limit go, then links, then whole lines."""
    chosen = _best_images(lines, options.images)
    texts = [line.render(options.form) for line in chosen]
    if all(budget.holds(texts) for budget in budgets):
        return Fitted([text for text in texts if text], {"over_budget": 0, "pruned_lines": 0})
    chosen = _best_images(lines, min(options.images, IMAGES))
    bare = [line.without(LINK) for line in chosen]
    texts = [line.render(options.form) for line in bare]
    plain = [line.render() for line in bare]
    points = scores(chosen, plain)
    order = sorted(range(len(texts)), key=lambda n: (-points[n], n))
    said = [_said(line, text) for line, text in zip(bare, plain, strict=True)]
    kept = [True] * len(texts)
    for budget in budgets:
        if not budget.holds([text for text, keep in zip(texts, kept, strict=True) if keep]):
            kept = _greedy(texts, kept, order, budget, said)
    return Fitted(
        [text for text, keep in zip(texts, kept, strict=True) if keep and text],
        {"over_budget": 1, "pruned_lines": len(kept) - sum(kept)},
    )


def _best_images(lines: Sequence[Line], limit: int) -> list[Line]:
    ranked = sorted(
        (-part.rank, number, place)
        for number, line in enumerate(lines)
        for place, part in enumerate(line.parts)
        if isinstance(part, Address) and part.kind == "image"
    )
    poor: dict[int, set[int]] = {}
    for _, number, place in ranked[limit:]:
        poor.setdefault(number, set()).add(place)
    return [
        replace(line, parts=tuple(p for n, p in enumerate(line.parts) if n not in poor[number]))
        if number in poor
        else line
        for number, line in enumerate(lines)
    ]


def _said(line: Line, text: str) -> str:
    """The letters of TEXT, to see that a kept line says them; '' where saying twice is a fact."""
    if line.kind == "field":
        return ""
    value = text.partition(": ")[2] if line.kind == "fact" else text
    letters = NOT_LETTER.sub("", value.casefold())
    return letters if len(letters) >= TOLD else ""


def _greedy(
    texts: Sequence[str],
    there: Sequence[bool],
    order: Sequence[int],
    budget: Budget,
    said: Sequence[str],
) -> list[bool]:
    kept = [False] * len(texts)
    left = (budget.limit or 0) + 1
    chosen: list[int] = []
    told = ""
    queue = deque((number, True) for number in order if there[number] and texts[number])
    while queue:
        number, is_new = queue.popleft()
        if is_new and said[number] and said[number] in told:
            queue.append((number, False))  # what a kept line says already comes last
            continue
        size = budget.size(texts[number]) + 1
        if size <= left:
            kept[number] = True
            chosen.append(number)
            told += f"{said[number]} "
            left -= size
    # Tokens of lines need not add up to those of their text: what is too much goes, worst first.
    while chosen and not budget.holds([t for t, keep in zip(texts, kept, strict=True) if keep]):
        kept[chosen.pop()] = False
    return kept


def scores(lines: Sequence[Line], texts: Sequence[str]) -> list[float]:
    """How much each line is worth keeping for what it takes, in points (see `worth`).

    TEXTS are the LINES as they are shown, without the addresses of links.
    """
    return [
        round(worth.of(found) - worth.LENGTH * math.log(max(SHORTEST, len(text))), 2)
        for found, text in zip(traits(lines, texts), texts, strict=True)
    ]


def traits(lines: Sequence[Line], texts: Sequence[str]) -> Iterator[list[str]]:
    """What is known of each line, in the words of the table of weights."""
    top = next((n for n, text in enumerate(texts) if text.startswith("# ")), None)
    best = max((rank for line in lines if (rank := _image_rank(line)) is not None), default=None)
    shapes: Counter[str] = Counter()
    before = None
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        found = [f"kind: {line.kind}", f"section: {line.section}", f"hint: {line.hint}"]
        found += _addressed(line, best)
        found += _told(text)
        if line.kind != "fact":
            found.append(_stands(number, top))
            shapes[line.shape] += 1
            if line.shape:
                found.append(_name(shapes[line.shape] - 1, REPEATS, "repeat: endless"))
                if (line.kind, line.shape) == before:
                    found.append("like the line before")
        before = (line.kind, line.shape)
        yield found


def _addressed(line: Line, best: int | None) -> Iterator[str]:
    if line.has(LINK):
        yield "link"
    pages = sum(isinstance(part, Address) and part.kind == "paging" for part in line.parts)
    if pages:
        yield "pages" if pages > 2 else "page"
    if line.has(frozenset({"contact"})):
        yield "contact address"
    if line.has(frozenset({"meta image"})):
        yield "image: told"
    rank = _image_rank(line)
    if rank is not None:
        yield "image: best" if rank == best else "image: other"


def _image_rank(line: Line) -> int | None:
    ranks = (
        part.rank for part in line.parts if isinstance(part, Address) and part.kind == "image"
    )
    return max(ranks, default=None)


def _told(text: str) -> Iterator[str]:
    if text.startswith("#"):
        yield f"level: {text.partition(' ')[0]}"
    elif text.startswith("title: "):
        yield "level: title"
    if CONTACT.search(text):
        yield "contact"
    if MONEY.search(text):
        yield "money"
    elif DIGIT.search(text):
        yield "digit"
    if LEGAL.search(text):
        yield "legal"


def _stands(number: int, top: int | None) -> str:
    if top is None:
        return _name(number, FROM_START, "start: far after")
    if number < top:
        return "title: far before" if top - number > 40 else "title: before"
    return _name(number - top, AFTER, "title: end")


def _name(number: int, steps: Sequence[tuple[int, str]], last: str) -> str:
    """The name of the first of STEPS that NUMBER is below."""
    return next((name for below, name in steps if number < below), last)
