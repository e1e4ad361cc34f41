"""A long line by its sentences, and what is kept of them as lines again, with `…` in the gaps."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sem.dataset.html.line import Line

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
class Piece:
    """Part of a line: all of it, or some of its sentences."""

    line: int
    number: int
    text: str
    # Its letters, to see that a kept line says them; '' where saying twice is a fact.
    said: str
    # Part of it is worth something.
    is_text: bool
    is_part: bool = False  # its line has others


def pieces_of(number: int, line: Line, text: str) -> Iterator[Piece]:
    """Yield the pieces that `line`, the page's `number`th, shown as `text`, is left out by."""
    if not text:
        return
    # A list of 500 countries to choose from is left out by parts, other fields are whole.
    is_text = line.section != "nav" and (
        line.kind not in ("heading", "field") or (line.kind == "field" and len(text) > LONG)
    )
    parts = _sentences(text) if is_text and len(text) > LONG else (text,)
    for place, part in enumerate(parts):
        yield Piece(number, place, part, _said(line, part), is_text, part != text)


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


def write_pieces(pieces: Sequence[Piece], selection: dict[int, Piece]) -> list[str]:
    """Return the lines that the pieces `selection`, by their numbers, make."""
    texts: list[str] = []
    before: Piece | None = None
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


def _close(texts: list[str], pieces: Sequence[Piece], last: int) -> None:
    """Let the last of `texts` say that its line went on behind piece `last`."""
    is_cut = last + 1 < len(pieces) and pieces[last + 1].line == pieces[last].line
    if texts and is_cut and not texts[-1].endswith("…"):
        texts[-1] += " …"


def _said(line: Line, text: str) -> str:
    """Return the letters of `text`, to see that a kept line says them.

    '' where saying twice is a fact.
    """
    if line.kind == "field":
        return ""
    value = text.partition(": ")[2] if line.kind == "fact" else text
    letters = NOT_LETTER.sub("", value.casefold())
    return letters if len(letters) >= MIN_REPEAT else ""
