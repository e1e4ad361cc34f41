"""One value in its many spellings: text without typography, numbers, money and measures.

A text is read as a number only when all of it is one number; a page that holds the number
somewhere is not a number.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sem.core import jsonio, locales
from sem.core.slotspec import SlotSpec

# Characters of a text that may still be one number or one date.
LONGEST = 60
_TYPOGRAPHY = str.maketrans("‘’‚‛ʼ´`′“”„‟«»‐‑‒–—−", "'" * 8 + '"' * 6 + "-" * 6)
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_AMOUNT = re.compile(
    r"([+-]?)\s*([^\d+-]*?)\s*([+-]?)\s*(\d(?:[\d.,' ]*[\d.,])?|[.,]\d+)\s*([^\d]*)"
)
# A mark behind a sign or word; behind a digit it could be an exponent.
_FOOTNOTE = re.compile(r"(?<=[^\W\d_]|[^\w\s])[\s*†‡¹²³⁴]+$|[*†‡]+$")
_PER_UNIT = re.compile(
    r"\s?(?:/|\bper\b|\bpro\b|\bje\b|\bpar\b|\bpor\b|\bal\b|\bza\b|\bpr\.?|\ba\b)\s?"
    r"(?:100\s?|1\s?)?(?:kg|g|mg|l|ml|cl|dl|m|m2|m²|cm|st|stk|stück|stuck|pc|pcs|piece|pièce|each|"
    r"unit|unidad|ud|szt|ks|kus|db|шт|mo|month|monat|mois|mes|year|jahr|an|day|tag|night|nacht)\b\.?"
)
_TAX_WORDS = frozenset(
    """
    vat gst hst tax taxes mwst ust moms mva m.v.a btw tva ttc ht taxe iva i.v.a kdv dph áfa áfával
    nettó bruttó brutto netto podatkiem vatu ндс пдв φπα 税込 税込み 税抜 税抜き 税别 税別 含税
    含稅 未税 shipping delivery versand versandkosten
    """.split()  # noqa: SIM905 - a list of words, not of literals
)
# What stands between the two, and means nothing without the second.
_TAX_LINKS = frozenset(
    """
    inc incl include includes included including inclusive ex excl exc excluding exclusive plus
    with without before after sales inkl exkl zzgl hors toutes comprises compris comprise inclus
    incluido incluida incluído inclusa inclusi incluso con sin più escl esclusa dahil hariç s bez
    vč z с без з με χωρίς
    """.split()  # noqa: SIM905 - a list of words, not of literals
)
_LAKHS = re.compile(r"\d{1,2}(?:,\d{2})*,\d{3}")


def fold_text(text: str) -> str:
    """Return `text` without differences of case, width, composition, quotes, dashes and white
    space.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = unicodedata.normalize("NFKC", plain).translate(_TYPOGRAPHY)
    # Soft hyphens, byte order marks and zero-width spaces are not seen, so they do not count.
    visible = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return " ".join(visible.split())


def is_empty_value(value: Any) -> bool:
    """Return whether `value` says nothing.

    That is null, an empty list or object, or a text without a sign.
    """
    return (
        value is None
        or value == []
        or value == {}
        or (isinstance(value, str) and not fold_text(value))
    )


def is_json(value: Any) -> bool:
    """Return whether `value` could stand in a JSON file.

    NaN, infinity and endless integers could not.
    """
    if isinstance(value, int):
        # 4,214 digits; Python writes no integer over 4,300.
        return value.bit_length() < 14_000
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(is_json(item) for item in value)
    return not isinstance(value, dict) or all(is_json(item) for item in value.values())


def canonical_text(value: Any) -> str:
    """Return one text for one JSON value: 1 and 1.0 are one number, `true` is not 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, list):
        return "[" + ",".join(canonical_text(item) for item in value) + "]"
    elif isinstance(value, dict):
        pairs = (
            f"{jsonio.canonical_json(k)}:{canonical_text(v)}" for k, v in sorted(value.items())
        )
        return "{" + ",".join(pairs) + "}"
    elif isinstance(value, str):
        value = unicodedata.normalize("NFC", value)
    return jsonio.canonical_json(value)


def value_text(value: Any) -> str:
    """Return `value` as a text: itself, or as JSON."""
    return value if isinstance(value, str) else jsonio.canonical_json(value)


@dataclass(frozen=True)
class Amount:
    """A number in the unit its slot names, and the currencies it may be in (None: not said)."""

    number: Decimal
    currencies: frozenset[str] | None = None


def parse_amount(value: Any, spec: SlotSpec) -> Amount | None:
    """Return `value` as a number; None when it is none, or more than one.

    Without `unit` only a JSON number or its plain text counts. With one, "€ 1.234,50" and
    "1,500 g" are read too; a sign that cannot stand for the slot's unit makes it no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str) or spec.unit is None:
        number = _plain(value)
        return None if number is None else Amount(number)
    return _written(value, spec)


def amounts_agree(candidate: Amount, reference: Amount, spec: SlotSpec) -> bool:
    """Return whether two amounts differ by at most the slot's tolerance, in one currency."""
    if (
        candidate.currencies
        and reference.currencies
        and not candidate.currencies & reference.currencies
    ):
        return False
    # Decimal, because prices sit on the boundary: 20 - 19.99 > 0.01 in floats.
    relative = Decimal(str(spec.relative)) * abs(reference.number)
    return abs(candidate.number - reference.number) <= max(Decimal(str(spec.tolerance)), relative)


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
    if len(text) > LONGEST:
        return None
    if locales.is_money(spec.unit):
        text = _FOOTNOTE.sub("", text)
    # "10²" folds to "102": a digit that is not a decimal digit is not a number.
    if any(unicodedata.category(c) == "No" for c in text):
        return None
    plain = _ascii_digits(fold_text(text))
    if locales.is_money(spec.unit):
        plain = _without_notes(plain)
    is_negative = plain.startswith("(") and plain.endswith(")")
    match = _AMOUNT.fullmatch(plain[1:-1].strip() if is_negative else plain)
    if match is None:
        return None
    sign, before, inner, digits, after = match.groups()
    if after.startswith("-") and not (sign or inner):
        # "5,00- €": accounts write the sign behind the number.
        inner, after = "-", after[1:]
    conversion = _in_unit(before.strip(), after.strip(), spec)
    if conversion is None or (sign and inner):
        return None
    factor, currencies = conversion
    number = number_of(digits.strip(), spec, currencies)
    if number is None:
        return None
    negative = is_negative != ("-" in (sign, inner))
    return Amount(-number * factor if negative else number * factor, currencies)


def _without_notes(text: str) -> str:
    """Return the money `text` without what pages write about a price: tax, unit, no decimals.

    `12,-`, `1 299:-`, `1,23,456/-` and `1299:90` are how some countries end an amount.
    """
    text = re.sub(r"(?<=\d)\s?(?:[.,:]\s?-{1,2}|/\s?-)(?!\d)", " ", text)
    text = re.sub(r"(?<=\d):(\d{2})(?!\d)", r",\1", text)
    text = re.sub(r"[(\[]([^()\[\]\d]*)[)\]]", r" \1 ", text)
    text = _PER_UNIT.sub(" ", text)
    words = {word: word.strip(".,;+*") for word in text.split()}
    if _TAX_WORDS & {*words.values()}:
        notes = _TAX_WORDS | _TAX_LINKS
        text = " ".join(word for word in text.split() if words[word] not in notes)
    return text.strip(" *;,+")


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text).translate(
        str.maketrans("٫٬", ".,")
    )


def _in_unit(
    before: str, after: str, spec: SlotSpec
) -> tuple[Decimal, frozenset[str] | None] | None:
    """Factor into the slot's unit and the currencies that the words around allow; else None."""
    if locales.is_money(spec.unit):
        return _in_money(before, after, spec)
    names = [name for name in (before, after) if name]
    dimension, base = locales.unit_conversions()[str(spec.unit).casefold()]
    if not names:
        return Decimal(1), None
    kind, factor = locales.unit_conversions().get(names[0], ("", base))
    return (factor / base, None) if kind == dimension and len(names) == 1 else None


def _in_money(
    before: str, after: str, spec: SlotSpec
) -> tuple[Decimal, frozenset[str] | None] | None:
    factor = Decimal(1)
    if after[:1] == "k" and (before or after[1:]) and locales.currencies_of(after) is None:
        # "1.5k $": thousands, where a currency stands beside.
        factor, after = Decimal(1000), after[1:].strip()
    part = locales.subunit_of(after)
    named = [locales.currencies_of(before)] if before else []
    named += [part or locales.currencies_of(after)] if after else []
    currencies = None if spec.unit == "currency" else frozenset([str(spec.unit)])
    for meant in named:
        currencies = meant if currencies is None or meant is None else currencies & meant
        if not currencies:
            return None
    return factor / 100 if part else factor, currencies if named else None


def number_of(
    digits: str, spec: SlotSpec, currencies: frozenset[str] | None = None
) -> Decimal | None:
    """Return `digits` with their marks as a number, by these rules.

    Spaces and apostrophes group. Of points and commas, the later is the decimal mark; one that
    repeats groups. A single one before exactly three digits ("1.234") is decided by the slot's
    `decimal_mark`, else it groups in money (but divides where each of the `currencies` has three
    decimals), and a comma groups and a point divides in measures.
    """
    marks = [c for c in digits if c in ".,"]
    mark = _decimal_mark(digits, marks, spec, currencies)
    whole, _, part = digits.rpartition(mark) if mark else (digits, "", "")
    if re.search(r"\D", part) or not _is_grouped(whole):
        return None
    return _bounded(re.sub(r"\D", "", whole) + "." + part if part else re.sub(r"\D", "", whole))


def _decimal_mark(
    digits: str, marks: list[str], spec: SlotSpec, currencies: frozenset[str] | None
) -> str:
    if not marks:
        return ""
    last = marks[-1]
    if marks.count(last) > 1:
        return ""  # 1.234.567
    if len(marks) > 1 or not re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", digits):
        return last
    if spec.decimal_mark:
        return last if spec.decimal_mark == last else ""
    if locales.is_money(spec.unit):
        named = currencies or frozenset({str(spec.unit)} - {"currency"})
        return last if named and all(locales.currency_decimals(c) == 3 for c in named) else ""
    return "" if last == "," else "."


def _is_grouped(whole: str) -> bool:
    """Return whether `whole` is digits in groups of three behind one kind of mark, or Indian
    lakhs.
    """
    marks = set(re.findall(r"\D", whole))
    if not marks:
        return True
    if len(marks) > 1:
        return False
    first, *rest = whole.split(marks.pop())
    is_even = 1 <= len(first) <= 3 and all(len(group) == 3 for group in rest)
    return is_even or _LAKHS.fullmatch(whole) is not None
