"""Small, raised and lowered text beside a number: its decimal part, footnote or exponent.

    173<sup>34</sup> Lei   ->   173.34 Lei          10<sup>6</sup>      ->   10^6
    12.99<sup>1</sup> €    ->   12.99 [1] €         1<sup>1</sup>/<sub>2</sub> -> 1 1/2

Such text never adds digits to the number in front of it: where nothing says what it is, a space
keeps the two apart. What it is can be told only once the line is whole, by what stands around it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sem.dataset.html import words

TAGS = frozenset(("sup", "sub", "small"))
# Elements that hold the last digits of a price, as class names spell them.
CENTS = words.to_set(
    "cent cents centime centimes centimos centavos decimal decimals fraction fractional "
    "subunit subunits kopeck kopecks kopeyki minor"
)
SUPERSCRIPT = words.to_set("sup superscript")
VERTICAL = re.compile(r"vertical-align\s*:\s*(?:super|top|text-top)", re.I)

_CODES = (
    "zł|zl|ZŁ|Kč|kč|Ft|ft|kr|Kr|kn|[Ll]ei|[Ll]eu|lv|лв|руб|грн|тг|сом|ден|дин|din|[Ee]uros?|"
    "KM|RM|Rp|Rs|TL|SFr|DM|DT|KD|[A-Z]{3}"
)
_SIGNS = r"[$¢£¤¥\u058f\u060b\u09f2\u09f3\u0e3f\u17db\u20a0-\u20cf\ufdfc\uffe0\uffe1\uffe5]"
CURRENCY = rf"(?:{_SIGNS}|р\.|R\$|Fr\.|(?:{_CODES})\b\.?)"
SIGN_BEFORE = re.compile(rf"{_SIGNS}\s*\Z")
CURRENCY_BEFORE = re.compile(rf"(?:{_SIGNS}|\b(?:Fr\.|(?:{_CODES})\.?))[ \u00a0:]*\Z")
CURRENCY_AFTER = re.compile(rf"[\s\u00a0*]{{0,3}}(?:{CURRENCY}|,?[-–—](?!\s*\d))")
# `12€<sup>99</sup>`: the sign stands where the decimal point is.
SIGN_BETWEEN = re.compile(rf"(\d[\d.,'\u2019\u00a0]*)(\s?{CURRENCY}\s*)\Z")
SIGN_FIRST = re.compile(rf"({CURRENCY})\s?(\d\d)(?!\d)(.*)\Z", re.S)
# Dinars are counted in thousandths.
THOUSANDTHS = re.compile(r"\s*(?:KWD|BHD|OMR|JOD|TND|LYD|IQD|DT|KD)\b")

NUMBER = re.compile(r"\d[\d.,'\u2019]*\Z")
DECIMALS = re.compile(r"[.,](\d+)\Z")
LEADING = re.compile(r"([-+\u2212\u2013]?)(\d+)(.*)\Z", re.S)
FRACTION = re.compile(r"\d{1,2}\s*[/\u2044\u2215]\s*\d{1,2}(?!\d)")
DENOMINATOR = re.compile(r"\s*[/\u2044\u2215]\s*\d{1,2}(?!\d)")
SLASH = ("/", "\u2044", "\u2215")
DEGREES = re.compile(r"\s?[CF]\b")
YEAR = re.compile(r"(?:19|20)\d\d")
HOURS = re.compile(
    r"\b(?:uhr|h|hrs?|heures?|godz|hod|óra|год|ч|час|bis|do|до|open\w*|öffn\w*|otw\w*|otev\w*|"
    r"mon?|tue?|wed|thu|fri|sat|sun|di|mi|fr|sa|so|pon|wt|śr|czw|pt|sob|nd|пн|вт|ср|чт|пт|сб|вс)\b",
    re.I,
)
SPAN_OF_HOURS = re.compile(r"\d\s*[-–—]\s*\d|\A\s*[-–—]\s*\d|\d\s*[-–—]\s*\Z")
# Petrol is sold to a tenth of a cent: `1,45<sup>9</sup> €/l`.
FUEL = re.compile(
    r"/\s?l(?:it\w*)?\b|\bgal(?:lon)?s?\b|diesel|super\b|benzin|unleaded|\be(?:5|10)\b|lpg", re.I
)
WORD = re.compile(r"[^\W\d_]+\Z")
MAX_UNIT = 2
MIN_PROSE = 4
SQUARES = {"2": "²", "3": "³"}
MARKS = {"tm": "™", "sm": "℠"}
OPENING = "([{/\u2044\u2215#№×·"


# `12⁹⁹ €`, spelled with characters instead of markup; one digit alone is a footnote or a power.
SPELLED = re.compile(r"(?<=\d)[⁰¹²³⁴-⁹]{2}(?![\w⁰¹²³⁴-⁹])")
PLAIN_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


class Raised(str):
    """A piece of text that stood in a raised, lowered or smaller element."""

    # Sup | sub | small | cents.
    kind: str
    mark: int  # which element
    is_price: bool

    def __new__(cls, value: str, kind: str, mark: int, is_price: bool) -> "Raised":
        text = super().__new__(cls, value)
        text.kind, text.mark, text.is_price = kind, mark, is_price
        return text


def raised_kind(tag: str, label: str, style: str | None) -> str:
    """Return how an element is raised by its tag, class `label` and `style`; '' when it is not."""
    if tag in TAGS:
        return tag
    if label and not CENTS.isdisjoint(words.label_words(label)):
        return "cents"
    if label and not SUPERSCRIPT.isdisjoint(label.lower().split()):
        return "sup"
    return "sup" if style and "vertical" in style and VERTICAL.search(style) else ""


def flatten_raised_text(parts: Sequence[Any]) -> list[Any]:
    """Return `parts` of a line with every raised piece written beside its number as plain text."""
    parts = list(_spelled_out(parts))
    settled: list[Any] = []
    number = 0
    while number < len(parts):
        part = parts[number]
        number += 1
        if not isinstance(part, Raised):
            settled.append(part)
            continue
        run: list[str] = [part]
        while number < len(parts) and getattr(parts[number], "mark", None) == part.mark:
            run.append(parts[number])
            number += 1
        before = ""
        while settled and isinstance(settled[-1], str):
            before = settled.pop() + before
        following = _following(parts, number)
        plain = "".join(piece for piece in following if not isinstance(piece, Raised))
        joined = _join(before, "".join(run), "".join(following), plain, part)
        settled.append(joined)
    return settled


def _spelled_out(parts: Sequence[Any]) -> Iterator[Any]:
    """Yield `parts` with pairs of superscript characters behind a digit as raised pieces."""
    for part in parts:
        if not isinstance(part, str) or part.isascii() or not SPELLED.search(part):
            yield part
            continue
        last = 0
        for match in SPELLED.finditer(part):
            yield part[last : match.start()]
            yield Raised(match[0].translate(PLAIN_DIGITS), "sup", -match.start() - 1, False)
            last = match.end()
        yield part[last:]


def _following(parts: Sequence[Any], start: int) -> list[str]:
    """Return the texts from `start` up to the next address."""
    texts = []
    for part in parts[start:]:
        if not isinstance(part, str):
            break
        texts.append(part)
    return texts


def _join(before: str, raised: str, following: str, plain: str, part: Raised) -> str:
    """Return `before` and the `raised` text behind it, as one text."""
    stem, raised_text = before.rstrip(), raised.strip()
    number = NUMBER.search(stem)
    leading = LEADING.match(raised_text)
    if number and raised_text[:1] in (".", ",") and raised_text[1:2].isdigit():
        return stem + raised_text
    if number and raised_text in ("o", "0", "º") and DEGREES.match(following):
        return f"{stem}°"
    if number and (sign := SIGN_FIRST.match(raised_text)) and not _has_decimals(number[0]):
        return f"{stem}{_point(number[0])}{sign[2]} {sign[1]}{sign[3]}"
    if leading is None:
        return before + MARKS.get(raised_text.lower(), raised)
    if stem.endswith(SLASH):
        return stem + raised_text
    if number:
        joined = _beside_number(stem, number[0], leading, following, plain, part)
    elif between := SIGN_BETWEEN.search(stem):
        joined = _behind_sign(stem, between, raised_text, part)
    else:
        joined = _beside_word(before, raised_text, following, part.kind)
    is_run_on = joined[-1:].isdigit() and following[:1].isdigit()
    is_note = joined.endswith("]") and following[:1].isalnum()
    return f"{joined} " if is_run_on or is_note else joined


def _beside_number(
    stem: str, number: str, leading: re.Match[str], following: str, plain: str, part: Raised
) -> str:
    """Return `stem`, which ends in `number`, and raised digits.

    `leading` is their sign, digits and rest.
    """
    sign, digits, rest = leading.groups()
    raised_text = f"{sign}{digits}{rest}"
    before = stem[: -len(number)]
    apart = f"{stem} {raised_text}"
    note = f"{stem} [{raised_text}]" if part.kind == "sup" else apart
    power = f"{stem}^{raised_text}" if part.kind == "sup" else apart
    is_price = bool(
        part.kind == "cents"
        or part.is_price
        or CURRENCY_AFTER.match(rest + plain)
        or CURRENCY_BEFORE.search(before)
    )
    if sign:
        return power
    if (FRACTION.match(raised_text) or DENOMINATOR.match(rest + following)) and not (
        is_price and len(digits) == 2
    ):
        return apart
    if number[-1] in ".,":
        is_decimal = len(digits) == 2 or is_price or part.kind == "cents"
        return stem + raised_text if is_decimal and not YEAR.fullmatch(number[:-1]) else note
    if _has_decimals(number):
        is_tenth = digits == "9" and not rest and FUEL.search(f"{before} {plain}")
        return stem + raised_text if is_tenth else note
    if len(digits) == 2 and _ends_price(rest):
        return _two_digits(stem, number, raised_text, plain, part, is_price, (note, power))
    if part.kind == "cents" and not rest and len(digits) < 3:
        return f"{stem}{_point(number)}{raised_text}"
    if len(digits) == 3 and is_price and THOUSANDTHS.match(rest + plain):
        return f"{stem}{_point(number)}{raised_text}"
    is_base = number in ("10", "2") or (len(number) == 1 and len(digits) == 1)
    if is_base and not before[-1:].isalpha():
        return note if is_price else power
    return note if len(digits) < 3 else apart


def _two_digits(
    stem: str,
    number: str,
    raised_text: str,
    plain: str,
    part: Raised,
    is_price: bool,
    others: tuple[str, str],
) -> str:
    """Return `stem`, which ends in the whole `number`, and two raised digits.

    Cents, minutes or neither.
    """
    note, power = others
    before = stem[: -len(number)]
    decimal = f"{stem}{_point(number)}{raised_text}"
    if is_price:
        return decimal
    if number.isdigit() and int(number) <= 24 and int(raised_text[:2]) < 60:
        around = f"{before} {plain[:40]}"
        if HOURS.search(around) or SPAN_OF_HOURS.search(f"{before}0{plain[:8]}"):
            return f"{stem}:{raised_text}"
    if number in ("10", "2") and part.kind == "sup":
        return power
    is_prose = len(before.split()) >= MIN_PROSE
    if part.kind == "sub" or is_prose or YEAR.fullmatch(number):
        return note
    return decimal


def _behind_sign(stem: str, between: re.Match[str], raised_text: str, part: Raised) -> str:
    """Return `stem`, which ends in a whole number and a currency sign, and raised digits."""
    if re.fullmatch(r"\d\d\*?", raised_text) and not _has_decimals(between[1]):
        start = stem[: between.start()]
        cents, rest = raised_text[:2], raised_text[2:]
        return f"{start}{between[1]}{_point(between[1])}{cents}{between[2]}{rest}"
    return f"{stem} [{raised_text}]" if part.kind == "sup" else f"{stem} {raised_text}"


def _beside_word(before: str, raised_text: str, following: str, kind: str) -> str:
    """Return `before`, which does not end in a number, and the raised digits `raised_text`."""
    last = before[-1:]
    if not last or last.isspace() or last in OPENING or SIGN_BEFORE.search(before):
        return before + raised_text
    word = WORD.search(before)
    size = len(word[0]) if word else 0
    if kind == "sub" or (kind != "sup" and size <= 2):
        return before + raised_text if word or kind == "sub" else f"{before} {raised_text}"
    if kind != "sup":
        return f"{before} {raised_text}"
    if 0 < size <= MAX_UNIT and raised_text in SQUARES:
        return before + SQUARES[raised_text]
    if 0 < size <= MAX_UNIT and raised_text[0] in "-\u2212\u2013":
        return f"{before}^{raised_text}"
    return f"{before} [{raised_text}]"


def _has_decimals(number: str) -> bool:
    """Return True if `number` has a decimal part: `12.99`, but not `1.299`."""
    decimals = DECIMALS.search(number)
    return decimals is not None and len(decimals[1]) != 3


def _point(number: str) -> str:
    """Return the decimal sign for `number`, another one than its thousands have."""
    return "" if number[-1] in ".," else "," if "." in number else "."


def _ends_price(rest: str) -> bool:
    """Return True if `rest`, behind two digits, goes on with neither a number nor a sentence."""
    bare = rest.strip()
    return not bare or bare[0] in "*/)†‡" or CURRENCY_AFTER.match(rest) is not None
