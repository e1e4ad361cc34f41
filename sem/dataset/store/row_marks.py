"""What a row can be recognised by: its id, content, page, source, domains and texts.

One form for rows as they are stored and for rows as snapshots hold them. Contents are compared as
letters and digits, composed, case aside: a page that comes back indented otherwise is the same.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sem.core import jsonio
from sem.core.example import SPELLINGS
from sem.dataset.html import words
from sem.dataset.store import rows
from sem.dataset.store.examples_table import RawRow

# Letters and digits; a shorter input is not a page that a digest could tell apart.
LEAST_PAGE = 64
# Where the prompt names its address.
HEAD = 4_000
ASCII_MARKS = bytes(c for c in range(128) if not chr(c).isalnum())
NOT_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Marks:
    """One row, ready to be compared with what was asked for."""

    id: str
    reference: str  # canonical JSON
    source: str | None
    domains: tuple[str, ...]
    # Every text of the row: the input first, then values and metadata.
    texts: tuple[str, ...]
    # Columns of JSON as their text stands in the store's file.
    stored: tuple[str, ...] = ()
    input_text: str = ""

    @property
    def content(self) -> str:
        """Input and reference, folded."""
        return f"{fold_letters(self.input_text)}|{fold_letters(self.reference)}"

    @property
    def page(self) -> str | None:
        """Return what follows the instruction, folded, where it is long enough to tell pages
        apart.
        """
        folded = fold_letters(_page(self.input_text))
        return folded if len(folded) >= LEAST_PAGE else None


def of_raw(row: RawRow) -> Marks:
    """Return the Marks of a stored `row`."""
    reference, meta = _value(row.reference), _value(row.metadata)
    texts = (
        row.input_text or "",
        *iter_strings(reference),
        *iter_strings(meta),
        row.system_prompt or "",
    )
    marks = _marks(row.id or "", texts, reference, meta, row.source_id)
    return replace(
        marks, stored=tuple(filter(None, (row.reference, row.metadata, row.slot_specs)))
    )


def marks_of_json(row: dict[str, Any]) -> Marks:
    """Return the Marks of `row` of a snapshot, of clean.jsonl or of a golden set."""
    input_text = next((row[name] for name in SPELLINGS["input_text"] if name in row), "")
    reference = next((row[name] for name in SPELLINGS["output_json"] if name in row), None)
    meta = next((row[name] for name in SPELLINGS["meta"] if name in row), None)
    texts = (
        str(input_text),
        *iter_strings({k: v for k, v in row.items() if k != "id" and v != input_text}),
    )
    return _marks(str(row.get("id") or ""), texts, reference, meta, row.get("source_id"))


def _marks(name: str, texts: tuple[str, ...], reference: Any, meta: Any, source: Any) -> Marks:
    meta = meta if isinstance(meta, dict) else {}
    return Marks(
        id=name,
        reference=jsonio.canonical_json(reference),
        source=str(source or meta.get("source_id") or "") or None,
        domains=tuple(sorted(set(_domains(texts[0], meta)))),
        texts=tuple(text for text in texts if text),
        input_text=texts[0],
    )


def fold_letters(text: str) -> str:
    """Return `text` as its letters and digits, composed, case aside."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    # Most of a page is ASCII: bytes drop its markup ten times faster than the expression.
    short = plain.casefold().encode("utf-8", "surrogatepass").translate(None, ASCII_MARKS)
    letters = short.decode("utf-8", "surrogatepass")
    return letters if letters.isascii() else NOT_WORD.sub("", letters)


def iter_strings(value: Any) -> Iterator[str]:
    """Yield every text inside `value`; the keys of objects are no texts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from iter_strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from iter_strings(inner)


def _page(text: str) -> str:
    tag = words.HTML.search(text)
    if tag is not None:
        return text[tag.start() :]
    line = rows.URL_LINE.search(text[:HEAD])
    return text[line.end() :] if line else text


def _domains(text: str, meta: dict[str, Any]) -> Iterator[str]:
    line = rows.URL_LINE.search(text[:HEAD])
    for address in (meta.get("url"), meta.get("domain"), meta.get("site"), line and line[1]):
        domain = rows.registered_domain(address) if isinstance(address, str) else ""
        if domain:
            yield domain


def _value(stored: str | None) -> Any:
    try:
        return jsonio.parse_json(stored) if stored else None
    except ValueError:  # kept as it is: broken JSON holds the same words
        return stored
