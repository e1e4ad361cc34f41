"""Writes a page line by line: text glued as a browser shows it, hints where they change."""

from dataclasses import replace

from sem.dataset import text
from sem.dataset.html import raised, words
from sem.dataset.html.line import Address, PageLine
from sem.dataset.html.raised import Raised

# Inside a line only these are worth a word: `12 old price: 15`.
INLINE_HINTS = frozenset(
    ("price", "old price", "currency", "availability", "brand", "sku", "rating")
)
FIELD_KINDS = (
    "[text",
    "[select",
    "[submit",
    "[email",
    "[password",
    "[search",
    "[button",
    "[tel",
    "[image",
    "[textarea",
)
LIST_SHARE = 0.6
PRICES = frozenset(("price", "old price", "sale"))


class PageWriter:
    """The lines made so far and the one being written."""

    def __init__(self) -> None:
        self.lines: list[PageLine] = []
        # Pieces of text so far.
        self.said = 0
        self.written = 0  # characters of them
        # Of the next line: `# `, `- `.
        self.prefix = ""
        # An inline element began or ended since the last text.
        self.apart = False
        self._parts: list[str | Address] = []
        self._linked = 0
        self._first = PageLine("text", ())
        self._last_mark = 0
        # Kinds and numbers of the open elements.
        self._raised: list[tuple[str, int]] = []
        self._elements = 0

    @property
    def is_empty(self) -> bool:
        return not self._parts

    def say(self, value: str, at: PageLine) -> None:
        """Add visible text; `at` carries the section, hint, shape and item of its element."""
        if value.isspace():
            if self._parts:
                self._parts.append(" ")
            return
        if not self._parts:
            self._first = at
        elif self.apart and _touch(self._parts[-1], value):
            self._parts.append(" ")
        self.apart = False
        self.said += 1
        self.written += len(value)
        if self._raised:
            value = Raised(value, *self._raised[-1], at.hint in PRICES)
        self._parts.append(value)

    def open_raised(self, kind: str) -> None:
        """Begin text of a raised `kind` (see `raised`), up to the next `close_raised`."""
        self._elements += 1
        self._raised.append((kind, self._elements))

    def close_raised(self) -> None:
        """End the raised text begun last."""
        self._raised.pop()

    def resume(self) -> None:
        """Go on with the last line when it ends in a digit: its cents may stand in a block."""
        if self._parts or not self.lines or not self.lines[-1].parts:
            return
        last = self.lines[-1]
        if isinstance(last.parts[-1], str) and last.parts[-1][-1:].isdigit():
            self.lines.pop()
            self._parts, self.prefix = list(last.parts), last.prefix
            self._first = replace(last, parts=(), label="", prefix="")
            self._last_mark = 0 if last.label else self._last_mark

    def put(self, piece: str | Address, at: PageLine) -> None:
        """Add a piece that is not page text: an address, a field, a cell mark."""
        if not self._parts:
            self._first = at
        self._parts.append(piece)

    @property
    def place(self) -> tuple[int, int]:
        """Return where writing is: lines made, pieces in the line."""
        return len(self.lines), len(self._parts)

    def since(self, place: tuple[int, int]) -> str:
        """Return what was written in the line since `place`."""
        start = place[1] if place[0] == len(self.lines) else 0
        return "".join(part for part in self._parts[start:] if isinstance(part, str)).strip()

    @property
    def awaits_value(self) -> bool:
        """Return whether a term was just written and its definition may follow on the line."""
        return bool(self._parts) and self._parts[-1] == ": "

    def linked(self, characters: int) -> None:
        """Note that the last `characters` were the text of a link."""
        self._linked += characters

    def add(self, line: PageLine) -> None:
        """End the line and add `line` as it is."""
        self.flush()
        self.lines.append(line)

    def attach(self, address: Address) -> None:
        """Put `address` at the end of the last line."""
        last = self.lines[-1]
        self.lines[-1] = last.with_parts((*last.parts, address))

    def flush(self) -> None:
        """End the line being written."""
        if not self._parts:
            return
        linked, self._linked = self._linked, 0
        parts, self._parts = _tidy(raised.flatten_raised_text(self._parts)), []
        self.apart = False
        if not parts:
            return
        content = "".join(part for part in parts if isinstance(part, str))
        links = sum(isinstance(part, Address) and part.kind == "link" for part in parts)
        if links < 2 or linked < LIST_SHARE * len(content) or self.prefix.startswith("-"):
            parts = _addresses_last(parts)
        first, prefix = self._first, self.prefix
        self.prefix = ""
        label = ""
        if first.hint and first.mark != self._last_mark and not prefix.startswith("#"):
            self._last_mark = first.mark
            # `## Ingredients` has said it already.
            is_said = first.hint in words.WHOLE and self.lines and self.lines[-1].prefix[:1] == "#"
            is_said = is_said or first.hint in content[: len(first.hint) + 4].casefold()
            whole = "".join(map(str, parts))
            if not is_said and words.is_plausible(first.hint, whole):
                label = f"{first.hint}: "
        kind = _kind(prefix, content)
        is_linked = linked > 0 and linked >= LIST_SHARE * len(content)
        self.lines.append(
            PageLine(
                kind,
                parts,
                first.section,
                first.hint,
                first.shape,
                prefix,
                label,
                first.mark,
                first.depth,
                is_linked,
            )
        )

    def unite(self, start: int, limit: int, is_row: bool) -> None:
        """Make the lines from `start` on one, if they are plain and at most `limit` characters."""
        if len(self.lines) - start < 2:
            return
        lines = self.lines[start:]
        if any(_is_closed(line) for line in lines):
            return
        if any(line.prefix for line in lines[1:]) or sum(map(len, lines)) > limit:
            return
        parts, contents = list(lines[0].parts), {lines[0].parts}
        for line in lines[1:]:
            if line.parts in contents:
                continue
            contents.add(line.parts)
            label = line.label if line.hint in INLINE_HINTS else ""
            parts += [f" | {label}" if is_row else f" {label}", *line.parts]
        is_linked = all(line.is_linked for line in lines)
        united = lines[0].with_parts(_addresses_last(tuple(parts)), is_linked)
        self.lines[start:] = [united]


def _is_closed(line: PageLine) -> bool:
    return line.kind in ("heading", "field", "fact") or line.has(frozenset(("paging",)))


def _tidy(parts: list[str | Address]) -> tuple[str | Address, ...]:
    """Return `parts` with neighbouring text joined and spaced once."""
    joined: list[str | Address] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    tidy: list[str | Address] = []
    for part in joined:
        piece = text.single_line(part) if isinstance(part, str) else part
        if isinstance(piece, str) and tidy:
            piece = f" {piece}" if piece and piece[0] not in ",.;:!?)" else piece
        if piece != "":
            tidy.append(piece)
    if all(isinstance(part, str) and not part.strip(" :|") for part in tidy):
        return ()
    return tuple(tidy)


def _addresses_last(parts: tuple[str | Address, ...]) -> tuple[str | Address, ...]:
    """Prose reads on: its addresses stand after it, except those of pages to turn to."""
    late = [p for p in parts if isinstance(p, Address) and p.kind in ("link", "image")]
    return (*(part for part in parts if part not in late), *late)


def _kind(prefix: str, content: str) -> str:
    if prefix.startswith("#"):
        return "heading"
    if "[" in content and any(kind in content for kind in FIELD_KINDS):
        return "field"
    if prefix.startswith("-"):
        return "item"
    return "row" if " | " in content else "text"


def _touch(before: str | Address, after: str) -> bool:
    """Return whether two texts would run together: 'Brand' + 'Foo', but not '12' + '.99'."""
    return isinstance(before, str) and before[-1:].isalnum() and after[:1].isalnum()
