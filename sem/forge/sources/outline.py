"""What a text is made of: headings, fences, list items, table rows, sentences, end to end.

Markdown as it is written, and what our readers of HTML, Word and PDF make, have this form. Every
pattern here runs in linear time: the text is a stranger's.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Fits = Callable[[int, int], bool]

LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n)|[^\r\n]++")
HEADING_LINE = re.compile(r" {0,3}(#{1,6})(?:[ \t]++(.*)|$)", re.S)
UNDERLINE = re.compile(r" {0,3}(?:=++|-{2,}+)[ \t]*+$")
FENCE = re.compile(r"[ \t]*+(`{3,}+|~{3,}+)")
ITEM = re.compile(r"[ \t]*+(?:[-*+]|[0-9]{1,9}[.)])[ \t]")
RULE = re.compile(r" {0,3}(?:-{3,}+|\*{3,}+|_{3,}+)[ \t]*+$")
# A full stop ends a sentence when space follows it; an ideographic one always does.
STOP = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_`]*+(?=\s)|[。！？｡]++[」』）”’)\]]*+|[।؟۔]++(?=\s)"
)
SHORT = re.compile(
    r"(?:^|[\s(\"'“])(?:[A-Za-z]|e\.g|i\.e|z\.B|d\.h|u\.a|cf|etc|vs|approx|ca|bzw|usw|ggf|Mr|Mrs|Ms|Dr"
    r"|Prof|St|No|Nr|Fig|Abb|Eq|Sec|Ch|Vol|pp|al|Inc|Ltd|Co|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept"
    r"|Oct|Nov|Dec)\.$"
)
WORD = re.compile(r"\s*+\S++\s*+|\s++")
CLAUSE = re.compile(r"[^\r\n,;:、，；：]*+(?:[\r\n]++|[,;:](?=\s)\s*+|[、，；：]|[,;:]|$)")
# Strength of a break before the least heading; a greater one adds up to 5.
HEADING = 60
PAGE, BLOCK, PART, SENTENCE, CLAUSE_END, WORD_END, NONE = 55, 50, 40, 30, 20, 10, 0
# How a page ends whose last sentence is whole.
ENDS = frozenset((*'.!?…:。！？”"»)', ""))
# Of a letter, which are not torn off it.
MOST_MARKS = 8
# Characters of a heading that chunks carry with them.
MAX_ABOVE = 120


@dataclass(frozen=True, slots=True)
class Atom:
    """A span that chunks do not cut, the headings it stands under, and how good a break before."""

    start: int
    end: int
    # Of a break before it: HEADING to NONE.
    strength: int
    above: tuple[str, ...] = ()
    is_heading: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together."""

    start: int
    end: int
    # Heading, code, item, row, text.
    kind: str
    level: int = 0
    title: str = ""


def atoms(text: str, fits: Fits, grain: int) -> list[Atom]:
    """Return `text` as atoms that FIT and follow each other without a gap.

    A word longer than what fits is cut every `grain` characters at most, never inside a letter
    that has marks of its own.
    """
    pieces: list[Atom] = []
    above: tuple[tuple[int, str], ...] = ()
    for block in outline_blocks(text):
        titles = tuple(title for _, title in above)
        if block.kind == "heading":
            above = (*((n, t) for n, t in above if n < block.level), (block.level, block.title))
            titles = tuple(title for _, title in above[:-1])
        strength = _strength(block, text, pieces)
        is_heading = block.kind == "heading"
        for start, end, inner in _parts(text, block, fits, grain):
            first = start == block.start
            pieces.append(Atom(start, end, strength if first else inner, titles, is_heading))
    return pieces


def _strength(block: Block, text: str, pieces: list[Atom]) -> int:
    """Return how good a break before `block` is."""
    if pieces and pieces[-1].is_heading:
        return (
            WORD_END if block.kind != "heading" else SENTENCE
        )  # not between a title and its text
    if block.kind == "heading":
        return HEADING + 6 - block.level
    if text.startswith("\f", block.start):
        return PAGE if text[max(0, block.start - 40) : block.start].rstrip()[-1:] in ENDS else NONE
    is_apart = pieces and text[: block.start].endswith(("\n\n", "\r\n\r\n", "\r\r"))
    return BLOCK if block.kind in ("text", "code") or is_apart else PART


def outline_blocks(text: str) -> Iterator[Block]:
    """Yield `text` as blocks without a gap; blank lines belong to the block before them."""
    reader = _Reader(text)
    for match in LINE.finditer(text):
        reader.take(match.start(), match.end(), match[0])
    yield from reader.done()


class _Reader:
    """Lines in, blocks out."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._made: list[Block] = []
        self._kind = ""
        self._start = 0
        self._end = 0
        self._fence = ""
        self._blank = True
        self._lines = 0  # of the open block

    def done(self) -> list[Block]:
        self._close()
        return self._made

    def take(self, start: int, end: int, line: str) -> None:
        """Add one `line`, which is the text from `start` to `end`."""
        if self._fence:
            self._in_fence(end, line)
            return
        bare = line.strip()
        if not bare:
            self._blank = True
            self._extend(start, end)
            return
        self._visible(start, end, line.rstrip("\r\n"), bare)
        self._blank = False

    def _in_fence(self, end: int, line: str) -> None:
        self._end = end
        self._lines += 1
        bare = line.strip()
        if bare.startswith(self._fence) and not bare.strip(self._fence[0]):
            self._fence = ""
            # Whatever follows is a block of its own.
            self._blank = True

    def _visible(self, start: int, end: int, line: str, bare: str) -> None:
        if fence := FENCE.match(line):
            self._open("code", start, end)
            self._fence = fence[1]
        elif start == 0 and bare == "---":
            # Front matter, which ends with such a line.
            self._open("code", start, end)
            self._fence = "---"
        elif heading := HEADING_LINE.match(line):
            self._open("heading", start, end)
            self._close(len(heading[1]), (heading[2] or "").strip().rstrip("#"))
        elif UNDERLINE.match(line) and self._is_title():
            title = self._text[self._start : start]
            self._end, self._kind = end, "heading"
            self._close(1 if "=" in bare else 2, title)
        elif ITEM.match(line) and not RULE.match(line):
            self._open("item", start, end)
        elif bare.startswith("|"):
            self._open("row", start, end)
        elif line.startswith("\f") or self._begins_text(line):
            self._open("text", start, end)
        else:
            self._extend(start, end)

    def _is_title(self) -> bool:
        return self._kind == "text" and self._lines == 1 and not self._blank

    def _begins_text(self, line: str) -> bool:
        if self._kind in ("", "row", "code"):
            return True
        # An indented line after a blank one still belongs to the list item.
        return self._blank and not (self._kind == "item" and line[:1] in " \t")

    def _open(self, kind: str, start: int, end: int) -> None:
        self._close()
        self._kind, self._start, self._end, self._lines = kind, start, end, 1

    def _extend(self, start: int, end: int) -> None:
        if self._kind:
            self._end = end
            self._lines += 1
        elif self._made:
            last = self._made[-1]
            self._made[-1] = Block(last.start, end, last.kind, last.level, last.title)
        else:
            # The text begins with blank lines.
            self._open("text", start, end)

    def _close(self, level: int = 0, title: str = "") -> None:
        if self._kind:
            heading = " ".join(title.split())[:MAX_ABOVE]
            self._made.append(Block(self._start, self._end, self._kind, level, heading))
        self._kind, self._lines = "", 0


def _parts(text: str, block: Block, fits: Fits, grain: int) -> Iterator[tuple[int, int, int]]:
    """Yield `block` as spans that fit, with the strength of the break before each."""
    whole = block.kind not in ("text", "item")
    if fits(block.start, block.end) and whole:
        yield block.start, block.end, NONE
        return
    cuts = _lines if whole else _sentences
    for start, end in cuts(text, block.start, block.end):
        strength = PART if whole else SENTENCE
        if fits(start, end):
            yield start, end, strength
        else:
            yield from _finer(text, start, end, fits, grain, strength)


def _finer(
    text: str, start: int, end: int, fits: Fits, grain: int, strength: int
) -> Iterator[tuple[int, int, int]]:
    """Yield a sentence or line that does not fit, by clauses, then words, then letters."""
    for first, last in _matches(CLAUSE, text, start, end):
        if fits(first, last):
            yield first, last, strength
        else:
            for a, b in _matches(WORD, text, first, last):
                for c, d in [(a, b)] if fits(a, b) else _letters(text, a, b, fits, grain):
                    yield c, d, strength
                    strength = WORD_END if d == b else NONE
        strength = CLAUSE_END


def _letters(text: str, start: int, end: int, fits: Fits, grain: int) -> Iterator[tuple[int, int]]:
    while start < end:
        size = min(grain, end - start)
        while size > 1 and not fits(start, start + size):
            size //= 2
        stop = start + size
        whole = stop
        # A letter with more marks than that is no letter, and looking for its start takes forever.
        while stop < end and whole - stop < MOST_MARKS and stop - start > 1 and _joins(text, stop):
            stop -= 1
        stop = whole if whole - stop == MOST_MARKS else stop
        yield start, stop
        start = stop


def _joins(text: str, place: int) -> bool:
    """Return whether the characters before and at `place` are one letter to a reader."""
    if text[place - 1 : place + 1] == "\r\n":
        return True
    return text[place] in "\u200d\ufe0f" or unicodedata.category(text[place])[0] == "M"


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    return _matches(LINE, text, start, end)


def _matches(
    pattern: re.Pattern[str], text: str, start: int, end: int
) -> Iterator[tuple[int, int]]:
    """Yield what `pattern` finds from `start` to `end`, end to end."""
    for match in pattern.finditer(text, start, end):
        if match.end() > match.start():
            yield match.start(), match.end()


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the sentences from `start` to `end`, each with the space after it."""
    first = start
    for stop in STOP.finditer(text, start, end):
        last = stop.end()
        while last < end and text[last].isspace():
            last += 1
        if last < end and not _is_short(text, stop.start(), stop.end(), last):
            yield first, last
            first = last
    yield first, end


def _is_short(text: str, dot: int, stop: int, following: int) -> bool:
    """Return whether the full stop at `dot` belongs to a short form: `e.g. this`, `Dr. Who`, `3.

    Item`.
    """
    if text[dot] != "." or stop - dot > 1:
        return False
    return text[following].islower() or bool(SHORT.search(text[max(0, dot - 12) : dot + 1]))
