"""One value in its many spellings: text without typography, numbers, money and measures.

A text is read as a number only when all of it is one number; a page that holds the number
somewhere is no number.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sem.core import jsonio, units
from sem.core.slotspec import SlotSpec

LONGEST = 60  # characters of a text that may still be one number or one date
_TYPOGRAPHY = str.maketrans("‘’‚‛ʼ´`′“”„‟«»‐‑‒–—−", "'" * 8 + '"' * 6 + "-" * 6)
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_AMOUNT = re.compile(
    r"([+-]?)\s*([^\d+-]*?)\s*([+-]?)\s*(\d(?:[\d.,' ]*[\d.,])?|[.,]\d+)\s*([^\d]*)"
)
_LAKHS = re.compile(r"\d{1,2}(?:,\d{2})*,\d{3}")


def folded(text: str) -> str:
    """TEXT without differences of case, width, composition, quotes, dashes and white space."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = unicodedata.normalize("NFKC", plain).translate(_TYPOGRAPHY)
    # Soft hyphens, byte order marks and zero-width spaces are not seen, so they do not count.
    seen = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return " ".join(seen.split())


def is_empty(value: Any) -> bool:
    """Whether VALUE says nothing: null, an empty list or object, a text without a sign."""
    return value is None or value == [] or value == {} or (
        isinstance(value, str) and not folded(value)
    )  # fmt: skip


def is_json(value: Any) -> bool:
    """Whether VALUE could stand in a JSON file: NaN, infinity and endless integers could not."""
    if isinstance(value, int):
        return value.bit_length() < 14_000  # 4,214 digits; Python writes no integer over 4,300
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(is_json(item) for item in value)
    return not isinstance(value, dict) or all(is_json(item) for item in value.values())


def canonical(value: Any) -> str:
    """One text for one JSON value: 1 and 1.0 are one number, `true` is not 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    elif isinstance(value, dict):
        pairs = (f"{jsonio.dumps(k)}:{canonical(v)}" for k, v in sorted(value.items()))
        return "{" + ",".join(pairs) + "}"
    elif isinstance(value, str):
        value = unicodedata.normalize("NFC", value)
    return jsonio.dumps(value)


def as_text(value: Any) -> str:
    """VALUE as a text: itself, or as JSON."""
    return value if isinstance(value, str) else jsonio.dumps(value)


@dataclass(frozen=True)
class Amount:
    """A number in the unit its slot names, and the currencies it may be in (None: not said)."""

    number: Decimal
    currencies: frozenset[str] | None = None


def amount(value: Any, spec: SlotSpec) -> Amount | None:
    """VALUE as a number; None when it is none, or more than one.

    Without `unit` only a JSON number or its plain text counts. With one, "€ 1.234,50" and
    "1,500 g" are read too; a sign that cannot stand for the slot's unit makes it no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str) or spec.unit is None:
        number = _plain(value)
        return None if number is None else Amount(number)
    return _written(value, spec)


def agree(said: Amount, wanted: Amount, spec: SlotSpec) -> bool:
    """Whether two amounts differ by at most the slot's tolerance, in one currency."""
    if said.currencies and wanted.currencies and not said.currencies & wanted.currencies:
        return False
    # Decimal, because prices sit on the boundary: 20 - 19.99 > 0.01 in floats.
    relative = Decimal(str(spec.relative)) * abs(wanted.number)
    return abs(said.number - wanted.number) <= max(Decimal(str(spec.tolerance)), relative)


def _plain(value: int | float | str) -> Decimal | None:
    if isinstance(value, str):
        text = unicodedata.normalize("NFKC", value).strip().replace("−", "-")
        if len(text) > LONGEST or not _PLAIN.fullmatch(text):
            return None
        value = text
    return _bounded(value if isinstance(value, int | str) else str(value))


def _bounded(digits: int | str) -> Decimal | None:
    try:
        number = Decimal(digits)
    except InvalidOperation:
        return None
    # 1e999 - 1 overflows the decimal context; no field needs more than a double holds.
    return number if number.is_finite() and abs(number.adjusted()) < 400 else None


def _written(text: str, spec: SlotSpec) -> Amount | None:
    # "10²" folds to "102": a digit that is not a decimal digit is no number.
    if len(text) > LONGEST or any(unicodedata.category(c) == "No" for c in text):
        return None
    plain = re.sub(r"[.,]\s?-{1,2}(?!\d)", "", _ascii_digits(folded(text)))  # "12,-" is 12
    is_negative = plain.startswith("(") and plain.endswith(")")
    match = _AMOUNT.fullmatch(plain[1:-1].strip() if is_negative else plain)
    if match is None:
        return None
    sign, before, inner, digits, after = match.groups()
    number = number_of(digits.strip(), spec)
    found = _in_unit([name for name in (before.strip(), after.strip()) if name], spec)
    if number is None or found is None or (sign and inner):
        return None
    factor, currencies = found
    negative = is_negative != ("-" in (sign, inner))
    return Amount(-number * factor if negative else number * factor, currencies)


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text).translate(
        str.maketrans("٫٬", ".,")
    )


def _in_unit(names: list[str], spec: SlotSpec) -> tuple[Decimal, frozenset[str] | None] | None:
    """Factor into the slot's unit and the currencies that NAMES allow; None: another unit."""
    if spec.unit == "currency" or spec.unit in units.CODES:
        wanted = frozenset(units.CODES if spec.unit == "currency" else [spec.unit])
        for name in names:
            wanted &= units.CURRENCIES.get(name, frozenset())
        return (Decimal(1), wanted if names else None) if wanted else None
    dimension, base = units.measures()[str(spec.unit).casefold()]
    if not names:
        return Decimal(1), None
    kind, factor = units.measures().get(names[0], ("", base))
    return (factor / base, None) if kind == dimension and len(names) == 1 else None


def number_of(digits: str, spec: SlotSpec) -> Decimal | None:
    """DIGITS with their marks as a number, by these rules.

    Spaces and apostrophes group. Of points and commas, the later is the decimal mark; one that
    repeats groups. A single one before exactly three digits ("1.234") is decided by the slot's
    `decimal_mark`, else it groups in money, and a comma groups and a point divides in measures.
    """
    marks = [c for c in digits if c in ".,"]
    mark = _decimal_mark(digits, marks, spec)
    whole, _, part = digits.rpartition(mark) if mark else (digits, "", "")
    if re.search(r"\D", part) or not _is_grouped(whole):
        return None
    return _bounded(re.sub(r"\D", "", whole) + "." + part if part else re.sub(r"\D", "", whole))


def _decimal_mark(digits: str, marks: list[str], spec: SlotSpec) -> str:
    if not marks:
        return ""
    last = marks[-1]
    if marks.count(last) > 1:
        return ""  # 1.234.567
    if len(marks) > 1 or not re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", digits):
        return last
    if spec.decimal_mark:
        return last if spec.decimal_mark == last else ""
    is_money = spec.unit == "currency" or spec.unit in units.CODES
    return "" if is_money or last == "," else "."


def _is_grouped(whole: str) -> bool:
    """Whether WHOLE is digits in groups of three behind one kind of mark, or Indian lakhs."""
    marks = set(re.findall(r"\D", whole))
    if not marks:
        return True
    if len(marks) > 1:
        return False
    first, *rest = whole.split(marks.pop())
    is_even = 1 <= len(first) <= 3 and all(len(group) == 3 for group in rest)
    return is_even or _LAKHS.fullmatch(whole) is not None
