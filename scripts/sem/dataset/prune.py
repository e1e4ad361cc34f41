"""Fit a page into a budget by leaving out its least informative lines, never its end."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sem.dataset.config import TaskOptions

VALUE = {"fact": 60, "heading": 45, "row": 34, "field": 40, "item": 26, "text": 30}
SECTION = {"nav": -28, "header": -8, "footer": -30, "aside": -26, "main": 8, "hidden": -12}
HINTS = {
    "price": 40, "old price": 20, "sale": 8, "currency": 30, "availability": 30, "brand": 34,
    "sku": 34, "title": 34, "name": 16, "author": 34, "date": 26, "rating": 28, "reviews": 16,
    "breadcrumb": 24, "category": 14, "tags": 14, "description": 20, "ingredients": 30,
    "instructions": 24, "yield": 30, "time": 28, "prep time": 28, "cook time": 28,
    "nutrition": 26, "address": 32, "city": 30, "state": 28, "zip": 30, "country": 24,
    "phone": 34, "fax": 34, "email": 34, "hours": 32, "pager": 36, "next": 36, "prev": 36,
    "color": 16, "specs": 12, "publisher": 26, "event": 16, "search": 6, "image": 20,
    "canonical": -20, "comments": -12, "related": -24, "cookies": -40, "newsletter": -14,
}  # fmt: skip
MONEY = re.compile(r"[$€£¥₹₽]\s?\d|\d\s?(?:[$€£¥₹₽]|(?:EUR|USD|GBP|kr|zł|Kč|руб|SEK|CHF)\b)")
CONTACT = re.compile(r"[\w.+-]+@[\w-]+\.\w|\+?\(?\d[\d\s()./-]{7,}\d|\b(?:tel|fax|phone)\b", re.I)
LEGAL = re.compile(
    r"cookie|privacy|datenschutz|terms of|all rights reserved|javascript|©|copyright|newsletter|"
    r"log ?in|sign (?:in|up)|subscribe|share on|follow us|facebook|twitter|pinterest|instagram",
    re.I,
)
DIGIT = re.compile(r"\d")
REPEATS = 12
COST = 12
COST_CAP = 40
AMOUNT = 16
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
    bare = [line.without(frozenset({"link"})) for line in chosen]
    texts = [line.render(options.form) for line in bare]
    worth = scores(bare, [line.render() for line in bare])
    order = sorted(range(len(texts)), key=lambda n: (-worth[n], n))
    kept = [True] * len(texts)
    for budget in budgets:
        if not budget.holds([text for text, keep in zip(texts, kept, strict=True) if keep]):
            kept = _greedy(texts, kept, order, budget)
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


def _greedy(
    texts: Sequence[str], there: Sequence[bool], order: Sequence[int], budget: Budget
) -> list[bool]:
    kept = [False] * len(texts)
    left = (budget.limit or 0) + 1
    chosen = []
    for number in order:
        size = budget.size(texts[number]) + 1 if there[number] else left + 1
        if size <= left:
            kept[number] = True
            chosen.append(number)
            left -= size
    # Tokens of lines need not add up to those of their text: what is too much goes, worst first.
    while chosen and not budget.holds([t for t, keep in zip(texts, kept, strict=True) if keep]):
        kept[chosen.pop()] = False
    return kept


def scores(lines: Sequence[Line], texts: Sequence[str]) -> list[float]:
    """How much each line is worth keeping: what it is, where it is and how long."""
    top = next((n for n, text in enumerate(texts) if text.startswith("# ")), None)
    shapes: Counter[str] = Counter()
    made = []
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        shapes[line.shape] += 1
        repeats = _repeats(line, shapes[line.shape])
        made.append(_score(line, text) + _nearness(number, top) - repeats - _length_cost(text))
    return made


def _length_cost(text: str) -> float:
    return min(COST_CAP, len(text) / COST)


def _score(line: Line, text: str) -> float:
    score = VALUE[line.kind] + SECTION.get(line.section, 0) + HINTS.get(line.hint, 0)
    if line.has(frozenset({"paging"})):
        score += 40
    if text.startswith(("# ", "title: ")):
        score += 60
    if CONTACT.search(text):
        score += 24
    if MONEY.search(text):
        score += 22
    elif DIGIT.search(text):
        score += 6
    return score - 16 if LEGAL.search(text) else score


def _nearness(number: int, top: int | None) -> float:
    if top is None:
        return max(0.0, 10 - number / 20)
    after = number - top
    return max(0.0, 24 - after / 4) if after >= 0 else max(0.0, 10 + after / 4)


def _repeats(line: Line, count: int) -> float:
    if not line.shape or line.hint in ("ingredients", "instructions", "pager"):
        return 0.0
    return min(30.0, max(0, count - REPEATS) * 1.5)
