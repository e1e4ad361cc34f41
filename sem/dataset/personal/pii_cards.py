"""Payment cards and bank accounts: issuer, length and checksum must agree."""

import re
from collections.abc import Iterator

from sem.dataset.personal.pii_spans import Span, in_address, nearest_label

# First digits and lengths by issuer (ISO/IEC 7812; the issuers' own tables).
ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|"  # Visa
    r"(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}|"  # Mastercard
    r"3[47]\d{13}|"  # American Express
    r"(?:6011|64[4-9]\d|65\d{2})\d{12}(?:\d{3})?|"  # Discover
    r"(?:30[0-5]|309|36\d|3[89]\d)\d{11}(?:\d{2,5})?|"  # Diners Club
    r"35(?:2[89]|[3-8]\d)\d{12}|(?:2131|1800)\d{11}|"  # JCB
    r"62\d{14,17}|"  # UnionPay
    r"(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}|"  # Maestro
    r"5019\d{12}|"  # Dankort
    r"220[0-4]\d{12,15}|"  # Mir
    r"1\d{14}"  # UATP
)
RUN = re.compile(
    r"\d(?<![\w.,+].)(?<!\w-.)"
    r"(?:\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ -])\d{6}\2\d{4,5}|\d{11,18})(?![\w-])"
)
# Shorter numbers, and those of UATP, are cards only where the text says so.
SURE = 15


def cards(value: str) -> Iterator[Span]:
    """Payment card numbers: an issuer's digits and length, or a word for a card, and Luhn's sum.

    12 to 14 digits need the word: an EAN of 13 digits may start with a 4, as a Visa does, and one
    in ten passes the card's checksum.
    """
    from stdnum import luhn

    for match in RUN.finditer(value):
        digits = re.sub(r"[ -]", "", match[0])
        if not luhn.is_valid(digits):
            continue
        named = nearest_label(value, match.start())
        is_sure = len(digits) >= SURE and digits[0] != "1"
        is_plain = named in ("", "call", "ip") and not in_address(value, match.start())
        if named == "card" or (is_plain and is_sure and ISSUERS.fullmatch(digits)):
            yield Span("card", match.start(), match.end(), match[0])


# Length by country (ISO 13616 registry, release 98).
REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
    "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 "
    "IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
    "MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
    "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
LENGTHS = {code[:2]: int(code[2:]) for code in REGISTRY.split()}
IBAN = re.compile(r"(?<![A-Za-z0-9])(?P<land>[A-Za-z]{2})\d{2}(?=[ -]?[A-Za-z0-9]{3})")
SPACED = re.compile(r"[ \u00a0-]?[A-Za-z0-9]")


def ibans(value: str) -> Iterator[Span]:
    """IBANs with or without spaces; country, length, structure and checksum must be right."""
    position = 0
    while match := IBAN.search(value, position):
        position = match.end()
        length = LENGTHS.get(match["land"].upper())
        end = _end(value, match.end(), (length or 4) - 4)
        if length is None or end is None or not _is_iban(value[match.start() : end]):
            continue
        position = end
        yield Span("iban", match.start(), end, value[match.start() : end])


def _end(value: str, position: int, count: int) -> int | None:
    """Return where `count` more letters and digits end, None when they do not or more follow."""
    for _ in range(count):
        step = SPACED.match(value, position)
        if step is None:
            return None
        position = step.end()
    return None if value[position : position + 1].isalnum() else position


def _is_iban(text: str) -> bool:
    packed = re.sub(r"[^A-Za-z0-9]", "", text).upper()
    rest = "".join(str(int(sign, 36)) for sign in packed[4:] + packed[:4])
    if int(rest) % 97 != 1:
        return False
    from stdnum import iban

    return iban.is_valid(packed)
