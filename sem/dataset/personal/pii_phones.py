"""Telephone numbers: a label or a shape first, libphonenumber to confirm.

Digits with gaps are mostly prices, dates and article numbers, and a check by libphonenumber
costs 40 us. So a run of digits is a candidate only with a plus sign, a label such as `Tel.`, or
the shape of a number that is dialled.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sem.dataset.personal.pii_spans import (
    PiiSpan,
    in_address,
    is_tight,
    labelled_after,
    nearest_label,
)

GAP = r"[ \u00a0\u2009\u202f.()/–\u2010\u2011-]"
# A number may go on in the next line, behind a hyphen: `888-823-⏎2633`.
GAPS = rf"(?:{GAP}{{0,3}}+(?:(?<=[-–\u2010\u2011).])\n[ ]?)?+)"
# Possessive: a run is read once, whatever its length. It opens with a character, which the engine
# finds fast, and looks back from there.
RUN = re.compile(
    r"[+(\d](?<![\w@#].)(?<!\d[.,].)(?:(?<=\d)|(?<=\+)[ ]?\d|(?<=\()\+?[ ]?\d)"
    rf"(?=(?:{GAPS}\d){{5}})(?:{GAPS}\d)*+"
)
EXTENSION = re.compile(r",?[ ]?(?:x|ext\.?|extension|durchwahl|poste|#)[ ]?\d{1,6}(?!\w)", re.I)
VANITY = re.compile(
    r"(?<![\w,.-])(?:1[-.])?8(?:00|33|44|55|66|77|88)[-.](?=[0-9.-]{0,4}[A-Z]{3})[A-Z0-9]{3,8}"
    r"(?:[-.][A-Z0-9]{2,5})?(?!\w)(?:[ ]?\((?:1?[-. ]?8\d\d[-. ])?\d{3}[-. ]\d{4}\))?"
)
# The trunk code of Brazil with its carrier left open: `(0xx11) 2509-7626`.
CARRIER = re.compile(r"\(0?xx ?\d\d\)[ ]?\d{4,5}[- ]?\d{4}(?!\d)", re.I)
# US ZIP+4 and the postcodes of Brazil and Portugal.
POSTCODE = re.compile(r"\d{5}-\d{3,4}|\d{4}-\d{3}")
BANDS = re.compile(
    r"(?:7|8|9|1[4-9]|2[0-6])(?:00|50)(?:[ ]?/[ ]?(?:7|8|9|1[4-9]|2[0-6])(?:00|50))+"
)
DATE = re.compile(
    r"(?<!\d)(?:\d{1,2}([./-])\d{1,2}\1(?:19|20)\d\d|(?:19|20)\d\d([./-])\d{1,2}\2\d{1,2})(?!\d)"
    r"(?:[T ]+\d{1,2}(?!\d))?|(?<!\d)\d{1,2}\.\d{1,2}\.\d\d[ ]+\d\d(?=:)"
)
NOT_PHONE = re.compile(
    r"\d{1,2}([./-])\d{1,2}\1\d\d|97[89][- ]?\d[\d -]{8,14}|(?:\d{1,3}\.){3}\d{1,3}|"
    r"(?:1[5-9]|20)\d\d[ ]?[-–/][ ]?(?:(?:1[5-9]|20)\d\d|\d\d)|"
    r"\d{1,2}\.\d\d[ ]?[-–][ ]?\d{1,2}\.\d\d"
)
AMOUNT = re.compile(r"\d{1,3}(?:[., ]\d{3})+(?:[.,]\d{1,2})?|\d+[.,]\d+")
MONEY_BEFORE = re.compile(r"(?:[€$£¥₹₽]|(?:EUR|USD|GBP|CHF|Rs|kr|zł)\.?)[ ]?\Z")
MONEY_AFTER = re.compile(r"[ ]?(?:[€$£¥₹₽%]|,\d|\.\d{1,2}\b|(?:EUR|USD|GBP|kg|mm|cm|px|ml)\b)")
AMERICAN = re.compile(
    r"(?:\+?1[-. ]{0,2})?(?:\([2-9]\d\d\)[ .-]{0,2}|[2-9]\d\d(?P<s>[-. ]))[2-9]\d\d"
    r"(?:(?(s)(?P=s)|[-. ])|(?<=[ ]\d{3})-)\d{4}"
)
BRACKETED = re.compile(r"\(0?\d{1,4}\)[ .-]{0,2}\d{2,4}(?:[ .-]{0,2}\d{2,4}){1,3}")
TRUNK = re.compile(r"0\d{1,5}[ ./()–-]{1,3}\d[\d ./–-]{4,14}")
TOLL_FREE = re.compile(r"1?[-. ]?(?:800|1300|1800|0800)(?:[-. ]\d{2,4}){2,4}")
SPLITS = re.compile(
    r"(?<=\d{4})[ ]*(?=[(+])|[ ]+[-–/][ ]+|[ \u00a0]{2,}|/(?=[0(+])|/[ ]+|(?<=\d{7}\))[ ]+|"
    r"(?<=\d{4})[ ](?=\d{3}[-.])"
)
GROUPS = re.compile(r"\d+")
CHAINED = re.compile(r"[ ,/;|&–-]*(?:or|and|oder|und|of|ou|et|y|o|e|bzw\.?)?[ ,/;|&–-]*")
GLUED = re.compile(r"fax|tel|mob|e-?mail|phone|call|web", re.I)
# Characters of a run; longer ones are tables of figures.
LONGEST = 400
MOST_TRIES = 8
NANP = "US"


def find_phone_numbers(value: str, regions: Sequence[str] = ()) -> Iterator[PiiSpan]:
    """Telephone and fax numbers.

    `regions` are asked in order for numbers without a country code.
    """
    last = 0
    for begin, stop in _runs(value):
        for start, end in _pieces(value, begin, stop, last, tuple(regions)):
            extension = EXTENSION.match(value, end)
            last = extension.end() if extension else end
            yield PiiSpan("phone", start, last, value[start:last])
    for pattern in (VANITY, CARRIER):
        yield from (PiiSpan("phone", *match.span(), match[0]) for match in pattern.finditer(value))


def _runs(value: str) -> Iterator[tuple[int, int]]:
    """Digits and what may stand between them, six digits or more, cut where a date stands."""
    for run in RUN.finditer(value):
        start, end = run.span()
        if end - start > LONGEST:
            continue
        for date in DATE.finditer(value, start, end):
            yield start, date.start()
            start = date.end()
        if sum(map(str.isdigit, value[start:end])) >= 6:
            yield start, end


def _pieces(
    value: str, start: int, end: int, last: int, regions: tuple[str, ...]
) -> Iterator[tuple[int, int]]:
    """Yield the numbers in the run from `start` to `end`.

    Itself, or its parts where it holds several.
    """
    start += value[start] == "(" and ")" not in value[start:end]
    cuts = [match.span() for match in SPLITS.finditer(value, start, end)][:64]
    is_one = not cuts or _confirmed(value[start:end], (*regions, NANP))
    if is_one and _is_phone(value, start, end, last, regions):
        yield start, end
        return
    edges = [start, *(edge for cut in cuts for edge in cut), end]
    parts = [pair for pair in zip(edges[::2], edges[1::2], strict=True) if pair != (start, end)]
    has_phone = False
    for part in parts or _trimmed(value, start, end):
        if _is_phone(value, *part, last, regions):
            yield part
            has_phone, last = True, part[1]
            if not parts:
                return
    if not has_phone and not is_one and _is_phone(value, start, end, last, regions):
        yield start, end


def _trimmed(value: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the run without its last or first group, as `669.6607 7am` and `1) 669-6607` need
    it.
    """
    groups = [match.span() for match in GROUPS.finditer(value, start, min(end, start + 60))]
    if len(groups) < 3 or end > start + 60:
        return []
    opened = groups[1][0] - (value[groups[1][0] - 1] in "(+")
    return [(start, groups[-2][1]), (opened, end)]


def _is_phone(value: str, start: int, end: int, last: int, regions: tuple[str, ...]) -> bool:
    number = value[start:end].replace("\n", "")
    digits = "".join(filter(str.isdigit, number))
    if not 6 <= len(digits) <= 15 or number.count("(") != number.count(")"):
        return False
    if _is_other(value, start, end):
        return False
    named = nearest_label(value, start)
    if in_address(value, start):
        return False
    if named in ("goods", "version", "card"):
        # `Design-Build, Inc. (979) 696-0524`: a word further off says nothing of such a shape.
        is_shaped = named == "version" or number.startswith(("+", "("))
        is_shaped = is_shaped and AMERICAN.fullmatch(number) is not None
        if not is_shaped or is_tight(value, start, 0):
            return False
        named = ""
    if POSTCODE.fullmatch(number) and not (named == "phone" and is_tight(value, start, 0)):
        return False
    is_grouped = len(GROUPS.findall(number)) > 1
    if named == "phone" or labelled_after(value, end):
        is_plain = is_grouped and not AMOUNT.fullmatch(number)
        if is_tight(value, start, int(is_grouped)) and (is_grouped or len(digits) >= 7):
            return is_plain or named == "phone"
        if named == "phone" and len(digits) >= 8 and _confirmed(number, regions):
            return True
    is_chained = last > 0 and start - last <= 12 and CHAINED.fullmatch(value, last, start)
    if named == "call" or is_chained:
        return len(digits) >= 7 and (is_grouped or _confirmed(number, regions))
    return not AMOUNT.fullmatch(number) and _has_shape(number, digits, regions)


def _is_other(value: str, start: int, end: int) -> bool:
    """Return whether a date, a range of years, a sum, an ISBN or an IP address stands there."""
    number = value[start:end]
    is_glued = value[end : end + 1].isalpha() and not GLUED.match(value, end)
    if is_glued and not EXTENSION.match(value, end):
        return True
    is_money = MONEY_BEFORE.search(value[max(0, start - 5) : start])
    return bool(
        is_money
        or MONEY_AFTER.match(value, end)
        or NOT_PHONE.fullmatch(number)
        or BANDS.fullmatch(number)
    )


def _has_shape(number: str, digits: str, regions: tuple[str, ...]) -> bool:
    """Return whether `number` is dialled somewhere, by its signs and libphonenumber alone."""
    if number.startswith(("+", "(+")) or digits.startswith("00"):
        return _is_valid("+" + digits.removeprefix("00"), None) or _is_valid(
            re.sub(r"\(0\)", "", number), None
        )
    if AMERICAN.fullmatch(number):
        is_spaced = not re.search(r"[-.()]", number) or re.match(r"\d{3} \d{3}-", number)
        return _is_valid(digits, NANP) and (not is_spaced or NANP in regions)
    if BRACKETED.fullmatch(number):
        return len(digits) >= 9
    is_trunk = TRUNK.fullmatch(number) or TOLL_FREE.fullmatch(number)
    return bool(is_trunk) and _confirmed(number, regions)


def _confirmed(number: str, regions: tuple[str, ...]) -> bool:
    return any(_is_valid(number, region) for region in regions[:MOST_TRIES])


@lru_cache(maxsize=4096)
def _is_valid(number: str, region: str | None) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


@lru_cache(maxsize=4096)
def dialled_digits(number: str, regions: tuple[str, ...] = ()) -> str:
    """Return what is dialled within the country.

    `+1 (555) 010-0199` and `5550100199` are the same.
    """
    import phonenumbers

    bare = EXTENSION.sub("", number)
    for region in (None, *regions[:MOST_TRIES], NANP):
        try:
            return str(phonenumbers.parse(bare, region).national_number)
        except phonenumbers.NumberParseException:
            continue
    return "".join(filter(str.isalnum, bare)).lower()


def is_country(region: str) -> bool:
    """Return whether libphonenumber knows the telephone numbers of `region`, an ISO 3166 code."""
    import phonenumbers

    return region in phonenumbers.SUPPORTED_REGIONS
