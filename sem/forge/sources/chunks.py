"""Documents cut on their structure, then on sentences, with overlap; nothing is dropped unsaid.

A document is read as a row of atoms that follow each other without a gap: a heading, a list item,
a table row, a fenced block that fits, a sentence. Chunks are runs of atoms, ended where the text
itself ends something: before a heading rather than after a paragraph, after a paragraph rather
than in it. So each character stands in the own part of exactly one chunk, or in a counted skip.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sem.core.errors import SemError
from sem.forge.base import Chunk, Document

# What a text is made of: headings, fences, list items, table rows, sentences, end to end.
#
# Markdown as it is written, and what our readers of HTML, Word and PDF make, have this form.
# Every pattern here runs in linear time: the text is a stranger's.

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


def split_atoms(text: str, fits: Fits, grain: int) -> list[Atom]:
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
        # A letter with more marks than that is not one, and looking for its start takes forever.
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
    """Return whether the full stop at `dot` belongs to a short form.

    Examples are `e.g. this`, `Dr. Who` and `3. Item`.
    """
    if text[dot] != "." or stop - dot > 1:
        return False
    return text[following].islower() or bool(SHORT.search(text[max(0, dot - 12) : dot + 1]))


Count = Callable[[str], int]
# characters; a smaller limit cuts words out of sentences.
SMALLEST = 40
# Letters that are cut off a word at once where it is longer than a chunk.
GRAIN = 20
# Share of its limit that a chunk has before it may end at a better place.
FILLED = 0.5


@dataclass(frozen=True)
class Sizes:
    """`params.chunks` of forge.yaml: how long chunks are."""

    # higher: fewer and longer requests, less of a chunk asked about.
    max_chars: int = 2_000
    # Of whole sentences repeated from the chunk before; 0: none.
    overlap_chars: int = 200
    # The same limit in the base model's tokens; both hold.
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_chars < SMALLEST:
            raise SemError(f"max_chars: {self.max_chars}", f"write {SMALLEST} or more")
        if not 0 <= self.overlap_chars <= self.max_chars // 2:
            raise SemError(f"overlap_chars: {self.overlap_chars}", "write 0 to half of max_chars")
        if self.max_tokens is not None and self.max_tokens < SMALLEST:
            raise SemError(f"max_tokens: {self.max_tokens}", f"write {SMALLEST} or more")


@dataclass(frozen=True)
class Skip:
    """Something of the sources that no chunk holds, and why: one row of skipped.jsonl."""

    # Document.name, or a path that is not a document.
    where: str
    what: str  # file, span or chunk
    reason: str
    detail: str = ""
    # Characters of the document's text.
    span: tuple[int, int] | None = None
    # Of the file's bytes, where it was read.
    sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return one line of skipped.jsonl."""
        record = {**vars(self), "span": list(self.span) if self.span else None}
        return {key: value for key, value in record.items() if value not in (None, "")}


@dataclass(frozen=True)
class DocumentChunks:
    """The chunks of one document in order, and the spans that are in none."""

    chunks: tuple[Chunk, ...]
    skips: tuple[Skip, ...] = ()

    def missing(self, document: Document) -> list[tuple[int, int]]:
        """Return the spans of `document` that neither a chunk nor a skip holds.

        Empty, or it is a bug.
        """
        spans = [(chunk.start, chunk.end) for chunk in self.chunks]
        spans += [skip.span for skip in self.skips if skip.span]
        gaps, reached = [], 0
        for start, end in sorted(spans):
            if start > reached:
                gaps.append((reached, start))
            reached = max(reached, end)
        if reached < len(document.text):
            gaps.append((reached, len(document.text)))
        return gaps


def cut_chunks(
    document: Document, settings: Sizes | None = None, tokens: Count | None = None
) -> DocumentChunks:
    """Return `document` as chunks within `settings`; `tokens` counts where max_tokens is set."""
    settings = settings or Sizes()
    if settings.max_tokens is not None and tokens is None:
        raise SemError("max_tokens is set, but nothing counts tokens", "leave it out")
    text = document.text
    measure = _measure(text, settings, tokens)
    atoms = split_atoms(text, measure.fits, max(GRAIN, settings.overlap_chars))
    chunks, skips = [], []
    for start, core, end, above in _runs(atoms, settings, measure):
        if not text[core:end].strip():
            skips.append(Skip(document.name, "span", "blank", span=(core, end)))
            continue
        chunks.append(Chunk(document.name, document.sha256, start, end, text[start:end], above))
    return DocumentChunks(tuple(chunks), tuple(skips))


@dataclass(frozen=True)
class _ChunkLimits:
    """What a run of atoms may weigh: characters, and tokens where they count."""

    text: str
    max_chars: int
    max_tokens: int | None
    tokens: Count | None

    def fits(self, start: int, end: int) -> bool:
        """Return whether the span alone is a chunk that may be."""
        if end - start > self.max_chars:
            return False
        return self.tokens is None or self.weight(start, end) <= (self.max_tokens or 0)

    def weight(self, start: int, end: int) -> int:
        """Tokens of the span; 0 where they do not count."""
        return self.tokens(self.text[start:end]) if self.tokens is not None else 0


def _measure(text: str, settings: Sizes, tokens: Count | None) -> _ChunkLimits:
    counted = tokens if settings.max_tokens is not None else None
    return _ChunkLimits(text, settings.max_chars, settings.max_tokens, counted)


def _runs(
    atoms: Sequence[Atom], settings: Sizes, measure: _ChunkLimits
) -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
    """(start with overlap, start, end, headings above it) of every chunk, end to end."""
    weights = [measure.weight(atom.start, atom.end) for atom in atoms]
    first = 0
    while first < len(atoms):
        back = _overlap(atoms, first, settings, measure, weights)
        last = _end(atoms, back, first, measure, weights)
        yield atoms[back].start, atoms[first].start, atoms[last - 1].end, atoms[back].above
        first = last


def _end(
    atoms: Sequence[Atom], back: int, first: int, measure: _ChunkLimits, weights: Sequence[int]
) -> int:
    """Return where the chunk that owns atoms from `first` ends.

    The best place among the late ones.
    """
    start, last = atoms[back].start, first
    spent = sum(weights[back:first])
    while last < len(atoms) and atoms[last].end - start <= measure.max_chars:
        spent += weights[last]
        if measure.max_tokens is not None and spent > measure.max_tokens:
            break
        last += 1
    # One atom always fits: outline made it so.
    last = max(last, first + 1)
    if last == len(atoms):
        return last
    filled = start + FILLED * measure.max_chars
    places = range(first + 1, last + 1)
    late = [n for n in places if atoms[n].start >= filled] or [last]
    return max(late, key=lambda n: (atoms[n].strength, n))


def _overlap(
    atoms: Sequence[Atom],
    first: int,
    settings: Sizes,
    measure: _ChunkLimits,
    weights: Sequence[int],
) -> int:
    """Return the atom that the chunk which owns `first` begins at, to repeat what leads up to
    it.
    """
    back, owner = first, atoms[first]
    if not settings.overlap_chars or owner.strength >= HEADING:
        return first
    spent = weights[first]
    while back and atoms[back].strength < HEADING:
        before = atoms[back - 1]
        spent += weights[back - 1]
        if before.is_heading or owner.start - before.start > settings.overlap_chars:
            break
        if owner.end - before.start > measure.max_chars:
            break
        if measure.max_tokens is not None and spent > measure.max_tokens:
            break
        back -= 1
    return back
