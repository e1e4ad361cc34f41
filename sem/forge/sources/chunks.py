"""Documents cut on their structure, then on sentences, with overlap; nothing is dropped unsaid.

A document is read as a row of atoms that follow each other without a gap: a heading, a list item,
a table row, a fenced block that fits, a sentence. Chunks are runs of atoms, ended where the text
itself ends something: before a heading rather than after a paragraph, after a paragraph rather
than in it. So each character stands in the own part of exactly one chunk, or in a counted skip.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sem.core.errors import SemError
from sem.forge.base import Chunk, Document
from sem.forge.sources import outline
from sem.forge.sources.outline import Atom

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

    # Document.name, or a path that is no document.
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
class Pieces:
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
) -> Pieces:
    """Return `document` as chunks within `settings`; `tokens` counts where max_tokens is set."""
    settings = settings or Sizes()
    if settings.max_tokens is not None and tokens is None:
        raise SemError("max_tokens is set, but nothing counts tokens", "leave it out")
    text = document.text
    measure = _measure(text, settings, tokens)
    atoms = outline.atoms(text, measure.fits, max(GRAIN, settings.overlap_chars))
    chunks, skips = [], []
    for start, core, end, above in _runs(atoms, settings, measure):
        if not text[core:end].strip():
            skips.append(Skip(document.name, "span", "blank", span=(core, end)))
            continue
        chunks.append(Chunk(document.name, document.sha256, start, end, text[start:end], above))
    return Pieces(tuple(chunks), tuple(skips))


@dataclass(frozen=True)
class _Measure:
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


def _measure(text: str, settings: Sizes, tokens: Count | None) -> _Measure:
    counted = tokens if settings.max_tokens is not None else None
    return _Measure(text, settings.max_chars, settings.max_tokens, counted)


def _runs(
    atoms: Sequence[Atom], settings: Sizes, measure: _Measure
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
    atoms: Sequence[Atom], back: int, first: int, measure: _Measure, weights: Sequence[int]
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
    atoms: Sequence[Atom], first: int, settings: Sizes, measure: _Measure, weights: Sequence[int]
) -> int:
    """Return the atom that the chunk which owns `first` begins at, to repeat what leads up to
    it.
    """
    back, owner = first, atoms[first]
    if not settings.overlap_chars or owner.strength >= outline.HEADING:
        return first
    spent = weights[first]
    while back and atoms[back].strength < outline.HEADING:
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
