"""Is a reference value findable in a text: verbatim, or after normalising what does not matter.

Case, Unicode form, spaces, punctuation between words, thousands separators, currency signs and
date order do not matter; digits and letters do. Booleans and labels are not looked for.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Literal

from sem.dataset.text import find_raw_text_end

NOT_WORD = re.compile(r"[\W_]+")
TAGS = re.compile(r"<[^<>]*>")
CODE = re.compile(
    r"<(?:(!--)|(style|svg)\b|(script)\b(?![^<>]*(?:ld\+json|text/(?:template|html)))|link\b[^<>]*>)",
    re.I,
)
NUMBER = re.compile(r"\d[\d.,'\u2019 \u00a0\u202f]*\d|\d")
ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:$|[T ])")
HOURS = re.compile(
    r"(\d{1,3})\s*(?:h|hr|hrs|hour|hours|std|stunden?|uur|uren|timm(?:ar|e)|timer?|ore?|hora?s?|"
    r"heures?|godz|ч)\b\.?(?:[\s,]*(?:and|und|et|e|y|en)?\s*(\d{1,2})\s*m?)?",
    re.I,
)
# `12<sup>99</sup>`, `12<span class="cents">99</span>`: two elements, one price.
CENTS = re.compile(
    r"(\d[\d.,'\u2019]{0,12})\s*(?:</[a-z]{1,10}>\s*){0,3}"
    r"<(?:sup|sub|small|[a-z]+\b[^<>]*\b(?:cents?|decimals?|fraction)\b)[^<>]*>\s*(\d\d)\s*<",
    re.I,
)
# NFKC makes digits of these: `12.99¹` is not 12.991, `1½` is not 11/2.
SMALL_DIGITS = re.compile(
    r"(?<=\d)(?=[\u00b2\u00b3\u00b9\u2070-\u2089\u00bc-\u00be\u2150-\u215f])"
)
How = Literal["verbatim", "normalised", "absent"]
LONG = 60
SHORT = 4
# characters; the 7 of `7 products` stands somewhere in most pages by chance.
TELLING = 3
PARTS_NEEDED = 0.9


class SearchableText:
    """A text prepared for many look-ups."""

    def __init__(self, value: str) -> None:
        self.value = value

    @cached_property
    def flat(self) -> str:
        """Lower case, compatible characters united, words separated by one space."""
        return f" {' '.join(NOT_WORD.split(_fold(self.value)))} "

    @cached_property
    def packed(self) -> str:
        """Letters and digits only."""
        return self.flat.replace(" ", "")

    @cached_property
    def numbers(self) -> frozenset[Decimal]:
        """Return every number the text may be read to contain, in either separator style."""
        folded = unicodedata.normalize("NFKC", SMALL_DIGITS.sub("_", self.value))
        numbers: set[Decimal] = set()
        for match in set(NUMBER.findall(folded)):
            numbers.update(_readings(match))
        for hours, minutes in HOURS.findall(folded):
            numbers.add((Decimal(hours) * 60 + Decimal(minutes or 0)).normalize())
        return frozenset(numbers)


def groundable_text(page: str) -> SearchableText:
    """Return `page` as markup and as text: attributes count, and words that tags cut in two.

    Code does not count: `90` in the name of a script file is not evidence for a cooking time.
    """
    page = _without_code(page)
    plain = html.unescape(TAGS.sub("", page))
    prices = " ".join(f"{whole}.{cents}" for whole, cents in CENTS.findall(page))
    return SearchableText(f"{html.unescape(page)}\n{plain}\n{prices}")


def _without_code(page: str) -> str:
    pieces, position = [], 0
    while match := CODE.search(page, position):
        pieces.append(page[position : match.start()])
        opened = next((name for name in match.groups() if name), None)
        end = match.end()
        position = end if opened is None else find_raw_text_end(page, opened.lower(), end)
    return " ".join([*pieces, page[position:]])


def is_grounded(value: Any, text: SearchableText) -> bool:
    """Return whether the scalar `value` is in `text`."""
    if isinstance(value, int | float):
        return Decimal(str(value)).normalize() in text.numbers
    packed = NOT_WORD.sub("", _fold(value))
    if not packed:
        return value.strip() in text.value
    if len(packed) < SHORT:
        return f" {' '.join(NOT_WORD.split(_fold(value))).strip()} " in text.flat
    if packed in text.packed or _date(value, text):
        return True
    return len(value) > LONG and _in_parts(value, text)


def classify_grounding(value: Any, text: SearchableText) -> How:
    """Return whether the scalar `value` stands in `text` as it is written, only after normalising,
    or not.

    A number stands there as JSON spells it, not inside a longer one: `4.5` is not in `14.50`.
    """
    if isinstance(value, int | float):
        spelled = rf"(?<![\d.,]){re.escape(str(value))}(?![\d]|[.,]\d)"
        is_verbatim = re.search(spelled, text.value) is not None
    else:
        is_verbatim = value.strip() != "" and value in text.value
    return "verbatim" if is_verbatim else "normalised" if is_grounded(value, text) else "absent"


def scalar_leaves(reference: Any) -> Iterator[tuple[str, Any]]:
    """(slot, scalar) of everything in `reference` that can be looked for."""
    if not isinstance(reference, dict):
        reference = {"answer": reference}
    for slot, value in reference.items():
        for scalar in _scalars(value):
            yield slot, scalar


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _scalars(inner)
    elif value is not None and not isinstance(value, bool) and value != "":
        yield value


def _fold(value: str) -> str:
    return unicodedata.normalize("NFKC", value).casefold()


def _readings(digits: str) -> set[Decimal]:
    """'1.234,50' -> 1234.5; '1,234' -> 1234 and 1.234, as nobody can tell."""
    compact = re.sub(r"[\s'\u2019]", "", digits)
    spellings = {compact.replace(",", ""), compact.replace(".", "").replace(",", ".")}
    spellings.update(part for part in re.split(r"[^\d.,]", digits))
    spellings.update(re.split(r"[.,]\s|\s", digits))
    return {number for text in spellings if (number := _decimal(text.strip(".,"))) is not None}


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text).normalize() if 0 < len(text) < 40 else None
    except InvalidOperation:
        return None


def _date(value: str, text: SearchableText) -> bool:
    """Return True if year, month and day of an ISO date stand within a few words of each other."""
    match = ISO_DATE.match(value)
    if match is None:
        return False
    year, month, day = match.groups()
    m, d = int(month), int(day)
    pattern = rf" (?:{day}|{d})(?:st|nd|rd|th)? .{{0,14}}{year} | {year} 0?{m} 0?{d} |" + (
        rf" 0?{m} 0?{d} {year} | \w+ 0?{d}(?:st|nd|rd|th)? {year} "
    )
    return re.search(pattern, text.flat) is not None


def _in_parts(value: str, text: SearchableText) -> bool:
    """Return True if nearly all sentences of a long text are there."""
    parts = [NOT_WORD.sub("", _fold(part)) for part in re.split(r"[.!?\n;:,]+", value)]
    parts = [part for part in parts if len(part) >= SHORT]
    chars_found = sum(len(part) for part in parts if part in text.packed)
    return bool(parts) and chars_found >= PARTS_NEEDED * sum(map(len, parts))
