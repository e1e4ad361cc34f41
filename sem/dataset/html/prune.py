"""Fit a page into a budget by leaving out its least informative lines, never its end.

A line of several sentences is left out by sentences, so that a paragraph longer than the budget
keeps its best part; `…` stands where something is gone.
"""

import json
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from sem.dataset.config import TaskOptions
from sem.dataset.html import traits
from sem.dataset.html.line import LINK, Address, PageLine

# What a line of a page is worth, in points, by what is known of it: a table, fitted, not set.
#
# Ten points are one unit of log-odds that the line holds a value an answer is made of, as a
# logistic regression has it. `weights.json` holds the points of each trait on every page, and
# what is added on a recipe, a product, a list, a contact page or another one; `prose` stands
# alone: a character's log-odds of belonging to the running text that a task asks for. It is
# fitted by `python benchmarks/quality/pruning.py --write`; how it does on sites it has not seen
# is in benchmarks/results/pruning.md. A trait the table does not name, such as a hint that was
# rare there, says nothing.

# Points for each factor of e in characters: a line competes by what it takes.
LENGTH = 9
EVERY = "every page"
PROSE = "prose"
WEIGHTS: dict[str, dict[str, int]] = json.loads(
    Path(__file__).with_name("weights.json").read_text("utf-8")
)


def line_worth(trait_names: Iterable[str], kind: str) -> int:
    """Return the points of a line with the traits `trait_names` on a page about `kind`."""
    table = _table(kind)
    return sum(table.get(trait, 0) for trait in trait_names)


@lru_cache(maxsize=16)
def _table(kind: str) -> dict[str, int]:
    """Return the points of each trait on a page about `kind`."""
    table: Counter[str] = Counter()
    for name in tables_of(kind):
        table.update(WEIGHTS.get(name, {}))
    return dict(table)


def tables_of(kind: str) -> tuple[str, ...]:
    """Return the names of the tables whose points count on a page about `kind`."""
    return (kind,) if kind == PROSE else (EVERY, kind)


def use_weights(weights: dict[str, dict[str, int]]) -> None:
    """Replace the table, as a benchmark does with one fitted to some of the sites."""
    WEIGHTS.clear()
    WEIGHTS.update(weights)
    _table.cache_clear()


# A long line by its sentences, and what is kept of them as lines again, with `…` in the gaps.

# A text this long that already occurs in a kept line is a repeat.
MIN_REPEAT = 12
NOT_LETTER = re.compile(r"[\W_]+")
# characters: a longer line is left out by sentences.
LONG = 240
# Characters that a piece of it has, where sentences are shorter.
MIN_PIECE = 100
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]{0,2}\s+|(?<=[。！？])")
GAP = " … "


@dataclass(frozen=True)
class LinePiece:
    """Part of a line: all of it, or some of its sentences."""

    line: int
    number: int
    text: str
    # Its letters, to see that a kept line says them; '' where saying twice is a fact.
    said: str
    # Part of it is worth something.
    is_text: bool
    is_part: bool = False  # its line has others


def pieces_of(number: int, line: PageLine, text: str) -> Iterator[LinePiece]:
    """Yield the pieces that `line`, the page's `number`th, shown as `text`, is left out by."""
    if not text:
        return
    # A list of 500 countries to choose from is left out by parts, other fields are whole.
    is_text = line.section != "nav" and (
        line.kind not in ("heading", "field") or (line.kind == "field" and len(text) > LONG)
    )
    parts = _sentences(text) if is_text and len(text) > LONG else (text,)
    for place, part in enumerate(parts):
        yield LinePiece(number, place, part, _said(line, part), is_text, part != text)


def _sentences(text: str) -> Iterator[str]:
    """Yield `text` by sentences of at least MIN_PIECE and words of at most LONG characters."""
    held = ""
    last = 0
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    for end in (*ends, len(text)):
        held, last = held + text[last:end], end
        while len(held) > LONG:
            cut = held.rfind(" ", MIN_PIECE, LONG) + 1 or LONG
            yield held[:cut].strip()
            held = held[cut:]
        if len(held) >= MIN_PIECE:
            yield held.strip()
            held = ""
    if held.strip():
        yield held.strip()


def write_pieces(pieces: Sequence[LinePiece], selection: dict[int, LinePiece]) -> list[str]:
    """Return the lines that the pieces `selection`, by their numbers, make."""
    texts: list[str] = []
    before: LinePiece | None = None
    last = -1
    for number in sorted(selection):
        piece = selection[number]
        is_gap = number != last + 1
        if before is not None and before.line == piece.line:
            is_gap = is_gap and not texts[-1].endswith("…")
            texts[-1] += (GAP if is_gap else " ") + piece.text
        else:
            _close(texts, pieces, last)
            texts.append(f"… {piece.text}" if piece.number else piece.text)
        before, last = piece, number
    _close(texts, pieces, last)
    return texts


def _close(texts: list[str], pieces: Sequence[LinePiece], last: int) -> None:
    """Let the last of `texts` say that its line went on behind piece `last`."""
    is_cut = last + 1 < len(pieces) and pieces[last + 1].line == pieces[last].line
    if texts and is_cut and not texts[-1].endswith("…"):
        texts[-1] += " …"


def _said(line: PageLine, text: str) -> str:
    """Return the letters of `text`, to see that a kept line says them.

    '' where saying twice is a fact.
    """
    if line.kind == "field":
        return ""
    value = text.partition(": ")[2] if line.kind == "fact" else text
    letters = NOT_LETTER.sub("", value.casefold())
    return letters if len(letters) >= MIN_REPEAT else ""


# Addresses of images that a page over its budget keeps: 40 tokens each.
IMAGES = 3
# characters: what is shorter costs as much.
SHORTEST = 8
# The first of each is kept before all others: the address of the next page costs too much else.
OUTRIGHT_NAMES = frozenset(("title", "heading", "breadcrumb", "next", "prev"))
OUTRIGHT = 100  # points
# Of a piece that is cut to what is left of a budget.
MIN_SHARE = 0.3
# No text has tokens of so many characters on average.
MAX_CHARS_PER_UNIT = 24
# Characters of a text for each unit of a budget that are counted first.
START = 6
# Tokens that the start of a text can have more than belong to it in the whole.
SLACK = 8

ADDRESSES = frozenset(("link", "paging", "contact"))
# Running text is a block: half of what a piece of it is worth is what stands around it.
NEIGHBOURS = 4
# Points at which a piece is running text beyond doubt. Such pieces stay in the page's order, so
# that a text longer than the budget keeps its beginning and not a sentence here and there.
CERTAIN = 15

Size = Callable[[str], int]


@dataclass(frozen=True)
class PageBudget:
    """How much a page may take, in what `size` counts: characters, or tokens of a model."""

    limit: int | None = None
    size: Size = len

    def holds(self, texts: Sequence[str]) -> bool:
        """Return whether `texts`, as lines of one text, are within it."""
        if self.limit is None:
            return True
        joined = "\n".join(texts)
        # The start of a page that is far too long says so for less.
        start = joined[: START * self.limit]
        if len(start) < len(joined) and self.size(start) > self.limit + SLACK:
            return False
        return self.size(joined) <= self.limit


@dataclass(frozen=True)
class Fitted:
    """The lines that stay, in page order, and how many went."""

    texts: list[str]
    report: dict[str, int] = field(default_factory=dict)


def prune_lines(
    lines: Sequence[PageLine], budgets: Sequence[PageBudget], options: TaskOptions
) -> Fitted:
    """Return `lines` within `budgets`: images over the limit go, then links, then whole lines.

    A task that asks for prose has no use for addresses in the middle of it: they go at once.
    """
    candidates = best_images(lines, options.images)
    if options.prose:
        candidates = [line.without(ADDRESSES) for line in candidates]
    texts = [line.render(options.form) for line in candidates]
    if all(budget.holds(texts) for budget in budgets):
        renderings = [text for text in texts if text]
        return Fitted(renderings, {"over_budget": 0, "pruned_lines": 0, "cut_lines": 0})
    candidates = best_images(lines, 0 if options.prose else min(options.images, IMAGES))
    bare = [line.without(ADDRESSES if options.prose else LINK) for line in candidates]
    plain = [line.render() for line in bare]
    renderings = plain if options.form == "lines" else [line.render(options.form) for line in bare]
    pieces = [piece for n, line in enumerate(bare) for piece in pieces_of(n, line, renderings[n])]
    if bare[0].kind == "plain":
        points = [0.0 if options.prose else _plain_score(piece.text) for piece in pieces]
    elif options.prose:
        points = prose_scores(piece_traits(lines, plain, pieces)[1], pieces)
    else:
        kind, traits_by_piece = piece_traits(candidates, plain, pieces)
        first = _outright(bare, plain)
        points = [
            _score(trait_names, kind, piece.text) + (OUTRIGHT if piece.line in first else 0)
            for trait_names, piece in zip(traits_by_piece, pieces, strict=True)
        ]
    order = sorted(range(len(pieces)), key=lambda n: (-points[n], n))
    selection = {n: pieces[n] for n in order}
    for budget in budgets:
        if not budget.holds(write_pieces(pieces, selection)):
            selection = _greedy(pieces, selection, order, budget)
    numbers = {piece.line for piece in selection.values()}
    whole = {piece.line for n, piece in enumerate(pieces) if selection.get(n) != piece}
    return Fitted(
        write_pieces(pieces, selection),
        {
            "over_budget": 1,
            "pruned_lines": len(lines) - len(numbers),
            "cut_lines": len(numbers & whole),
        },
    )


def _outright(lines: Sequence[PageLine], texts: Sequence[str]) -> set[int]:
    """Return the lines in which a page says outright what it is and where it goes on."""
    numbers: set[int] = set()
    names = set()
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        name = ""
        if line.kind == "fact":
            name = text.partition(":")[0]
        elif text.startswith("# "):
            name = "heading"
        elif line.hint == "breadcrumb":
            name = "breadcrumb"
        if name in OUTRIGHT_NAMES and name not in names and len(text) <= LONG:
            names.add(name)
            numbers.add(number)
    return numbers


def piece_traits(
    lines: Sequence[PageLine], texts: Sequence[str], pieces: Sequence[LinePiece]
) -> tuple[str, list[list[str]]]:
    """Return what a page is about, and what is known of each of its `pieces`.

    `texts` are the `lines` as they are shown, without the addresses of links.
    """
    own_by_line = [list(traits.text_traits(text)) for text in texts]
    traits_by_line = [
        context + own
        for context, own in zip(traits.context_traits(lines, texts), own_by_line, strict=True)
    ]
    kind = traits.page_kind(traits_by_line)
    return kind, [
        traits_by_line[piece.line]
        if piece.text == texts[piece.line]
        else [
            *traits_by_line[piece.line][: -len(own_by_line[piece.line]) or None],
            *traits.text_traits(piece.text),
            *_place(piece),
        ]
        for piece in pieces
    ]


def _place(piece: LinePiece) -> Iterator[str]:
    if piece.number:
        yield "part: later" if piece.number < 4 else "part: late"


def prose_scores(
    traits_by_piece: Sequence[Sequence[str]], pieces: Sequence[LinePiece]
) -> list[float]:
    """Return how surely each of `pieces` belongs to the running text, in points up to CERTAIN.

    A piece counts half by its own traits and half by the mean of its neighbourhood, itself
    included, in which each character counts alike and the nearer piece more.
    """
    own = [line_worth(trait_names, PROSE) for trait_names in traits_by_piece]
    sizes = [len(piece.text) for piece in pieces]
    points = []
    for number, score in enumerate(own):
        near = range(max(0, number - NEIGHBOURS), min(len(own), number + NEIGHBOURS + 1))
        shares = [sizes[n] * (NEIGHBOURS + 1 - abs(n - number)) for n in near]
        around = sum(share * own[n] for share, n in zip(shares, near, strict=True)) / sum(shares)
        points.append(min(float(CERTAIN), round((score + around) / 2, 2)))
    return points


def _plain_score(text: str) -> int:
    """Rank `text` of no page: money and contacts, then numbers, then in the order it came."""
    trait_names = set(traits.text_traits(text))
    return 2 if trait_names & {"money", "contact"} else int("digit" in trait_names)


def _score(trait_names: Sequence[str], kind: str, text: str) -> float:
    size = LENGTH * math.log(max(SHORTEST, len(text)))
    return round(line_worth(trait_names, kind) - size, 2)


def line_scores(lines: Sequence[PageLine], texts: Sequence[str]) -> list[float]:
    """Return how much each line is worth keeping for what it takes, in points (see `worth`).

    `texts` are the `lines` as they are shown, without the addresses of links.
    """
    pieces = [LinePiece(n, 0, text, "", True) for n, text in enumerate(texts)]
    kind, traits_by_line = piece_traits(lines, texts, pieces)
    return [
        _score(trait_names, kind, text)
        for trait_names, text in zip(traits_by_line, texts, strict=True)
    ]


def best_images(lines: Sequence[PageLine], limit: int) -> list[PageLine]:
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
        line.with_parts(tuple(p for n, p in enumerate(line.parts) if n not in poor[number]))
        if number in poor
        else line
        for number, line in enumerate(lines)
    ]


def _greedy(
    pieces: Sequence[LinePiece],
    candidates: dict[int, LinePiece],
    order: Sequence[int],
    budget: PageBudget,
) -> dict[int, LinePiece]:
    selection: dict[int, LinePiece] = {}
    room = (budget.limit or 0) + 1
    numbers: list[int] = []
    passed: list[int] = []
    transcript = ""
    gap = budget.size(" …")
    queue = deque((number, True) for number in order if number in candidates)
    while queue and room > 1:
        number, is_new = queue.popleft()
        piece = candidates[number]
        if is_new and piece.said and piece.said in transcript:
            # What a kept line says already comes last.
            queue.append((number, False))
            continue
        if len(piece.text) > MAX_CHARS_PER_UNIT * room:
            passed.append(number)
            continue
        size = (
            budget.size(piece.text) + 1 + (gap * (1 + (piece.number > 0)) if piece.is_part else 0)
        )
        if size > room:
            passed.append(number)
            continue
        selection[number] = piece
        numbers.append(number)
        transcript += f"{piece.said} "
        room -= size
    # A short line is no loss: half of it would say nothing.
    long = [n for n in passed if candidates[n].is_text and len(candidates[n].text) >= MIN_PIECE]
    for number in (long if selection else passed)[:8]:
        share = MIN_SHARE if selection else 0
        if part := _cut(candidates[number].text, room - 1, budget.size, share):
            selection[number] = replace(candidates[number], text=part)
            numbers.append(number)
            break
    # Tokens of lines need not add up to those of their text: what is too much goes, worst first.
    while numbers and not budget.holds(write_pieces(pieces, selection)):
        del selection[numbers.pop()]
    return selection


def _cut(text: str, room: int, size: Size, share: float) -> str:
    """Return the longest start of `text`, by words, that takes `room`.

    '' when that is under its `share`.
    """
    if room < share * size(text):
        return ""
    ends = [match.start() for match in re.finditer(r"\s", text)]
    if len(ends) < len(text) / LONG * 4:
        # Chinese and Japanese are written without spaces.
        ends = list(range(1, len(text)))
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high + 1) // 2
        fits = size(f"{text[: ends[middle - 1]]}{GAP}") <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return f"{text[: ends[low - 1]]} …" if low else ""
