"""Every kind of personal data in one text, and what makes two spellings the same value."""

import importlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sem.dataset.personal import pii_phones, pii_spans
from sem.dataset.personal.pii_spans import GONE, PiiSpan, in_address, nearest_label

# National identity, tax and health numbers, by the maintained modules of python-stdnum.
#
# A row is a shape, a module and the words that name the number. A shape that nothing else has (a
# letter in its place, dashes, a date inside) is enough; digits alone need one of the words
# nearby.

# a sign in them counts.
SIGNED = ("fi.hetu", "kr.rrn", "se.personnummer")
# Characters around a number in which a word must stand.
NEAR = 60
# Of a number, and of what must not follow it.
MAX_ID_CHARS = 40


@dataclass(frozen=True)
class NumberKind:
    """One kind of number: its shape, its module in stdnum ('' for none), words that name it."""

    shape: re.Pattern[str]
    module: str
    # none: the shape is enough.
    words: tuple[str, ...] = ()


def _sure(shape: str, module: str) -> NumberKind:
    return NumberKind(re.compile(shape, re.I), module)


def _named(shape: str, module: str, *words: str) -> NumberKind:
    return NumberKind(re.compile(rf"(?<![\w.,+-])(?:{shape})(?![\w-])", re.I), module, words)


# Shapes that are enough.
CHECKED = (
    _sure(r"(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}", "us.ssn"),
    _sure(r"9\d\d-\d\d-\d{4}", "us.itin"),
    _sure(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    _sure(r"[XYZ]-?\d{7}-?[A-Z]", "es.nie"),
    _sure(r"\d{8}-[A-Z]", "es.dni"),
    _sure(r"[0-3]\d[01]\d{3}[-+A-FU-Y]\d{3}[0-9A-Y]", "fi.hetu"),
    _sure(r"\d{6}-[1-8]\d{6}", "kr.rrn"),
    _sure(r"(?:19|20)?\d\d[01]\d[0-3]\d[-+]\d{4}", "se.personnummer"),
    _sure(r"\d{3}\.\d{3}\.\d{3}-\d\d", "br.cpf"),
    _sure(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", "be.nn"),
    _sure(r"756\.\d{4}\.\d{4}\.\d\d", "ch.ssn"),
    _sure(r"\d{6}(?:19|20)\d{9}[0-9X]", "cn.ric"),
    _sure(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d", "mx.curp"),
)
TOKEN = re.compile(r"(?<![\w.-])(?=[A-Za-z-]{0,6}\d)[0-9A-Za-z][0-9A-Za-z.+-]{7,19}+(?![\w-])")
# Digits that could be anything: one of the words must stand nearby.
NAMED = (
    _named(r"\d{3}[ -]?\d\d[ -]?\d{4}", "us.ssn", "ssn", "social security"),
    _named(r"9\d\d[ -]?\d\d[ -]?\d{4}", "us.itin", "itin", "taxpayer"),
    _named(r"\d{3}([ -]?)\d{3}\1\d{3}", "ca.sin", "sin", "social insurance"),
    _named(
        r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]",
        *("", "nino", "ni number", "ni no", "national insurance"),
    ),
    _named(r"\d{3}[ -]?\d{3}[ -]?\d{4}", "gb.nhs", "nhs"),
    _named(
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        *("de.idnr", "idnr", "steuer-id", "steueridentifikationsnummer", "identifikationsnummer"),
    ),
    _named(r"\d{9}|\d{4}\.\d\d\.\d{3}", "nl.bsn", "bsn", "burgerservicenummer", "sofinummer"),
    _named(r"\d{11}", "pl.pesel", "pesel"),
    _named(
        r"[1-9]\d{10}",
        *("tr.tckimlik", "tckn", "kimlik", "kimlik numarası", "turkish id", "t.c."),
    ),
    _named(r"\d{7,8}-?[A-Z]", "es.nif", "nif", "dni", "d.n.i.", "n.i.f.", "documento nacional"),
    _named(r"[2-9]\d{3}([ :-]?)\d{4}\1\d{4}", "in_.aadhaar", "aadhaar", "aadhar", "uidai"),
    _named(r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]", "in_.pan", "pan", "income tax"),
    _named(r"[1-8]\d{12}", "th.pin", "thai id", "thai national id", "บัตรประชาชน"),
    _named(
        r"\d{13}",
        *("za.idnr", "south african id", "sa id", "rsa id", "id number", "identity number"),
    ),
    _named(r"\d{3} ?\d{3} ?\d{3}", "au.tfn", "tfn", "tax file"),
    _named(
        r"(?:18|19|20)?\d{6}-?\d{4}",
        *("se.personnummer", "personnummer", "pnr", "personal identity"),
    ),
    _named(r"\d{6} ?\d{5}", "no.fodselsnummer", "fødselsnummer", "fnr", "personnummer"),
    _named(r"\d{6}-?\d{4}", "dk.cpr", "cpr", "cpr-nr", "cpr-nummer", "personnummer"),
    _named(r"[1-8]\d{12}", "ro.cnp", "cnp", "cod numeric personal"),
    _named(r"\d{10}", "bg.egn", "егн", "egn"),
    _named(r"\d{6}/?\d{3,4}", "cz.rc", "rodné číslo", "rodne cislo"),
    _named(r"\d{11}", "hr.oib", "oib"),
    _named(r"[12]\d{8}", "pt.nif", "nif", "contribuinte"),
    _named(r"\d{11}", "br.cpf", "cpf"),
    _named(
        r"[12] ?\d\d ?\d\d ?\d[0-9AB] ?\d{3} ?\d{3} ?\d\d",
        *("fr.nir", "nir", "sécurité sociale", "insee"),
    ),
    _named(r"\d{7}[A-W][A-IW]?", "ie.pps", "pps", "ppsn"),
    _named(r"\d{9}", "il.idnr", "teudat zehut", "תעודת זהות"),
    _named(r"\d{13}", "kr.rrn", "rrn", "resident registration", "주민등록번호"),
    _named(r"\d{1,2}\.?\d{3}\.?\d{3}-[0-9K]", "cl.rut", "rut", "r.u.t.", "run"),
    _named(r"\d{11}", "gr.amka", "αμκα", "amka"),
)


def national_ids(value: str) -> Iterator[PiiSpan]:
    """Numbers that a state gave a person; their checksum must be right where they have one."""
    for token in TOKEN.finditer(value):
        number = token[0].rstrip(".+-")
        if any(k.shape.fullmatch(number) and _is_valid(k.module, number) for k in CHECKED):
            yield PiiSpan("national_id", token.start(), token.start() + len(number), number)
    lowered = _lower(value)
    for kind in NAMED:
        past = 0
        for at, end in _places(lowered, kind.words):
            first = max(past, at - NEAR, value.rfind(GONE, max(0, at - NEAR), at) + 1)
            last = end + NEAR
            gap = value.find(GONE, end, last)
            last = gap if gap >= 0 else last
            # Read past the last place: the start of a longer number is not an id.
            for match in kind.shape.finditer(value, first, last + MAX_ID_CHARS):
                if match.end() <= last and _is_valid(kind.module, match[0]):
                    past = match.end()
                    yield PiiSpan("national_id", *match.span(), match[0])


def _lower(value: str) -> str:
    """Return `value` in lower case, character for character: `İ` alone would become two."""
    lowered = value.lower()
    if len(lowered) == len(value):
        return lowered
    return "".join(c if len(c.lower()) > 1 else c.lower() for c in value)


def _places(lowered: str, words: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Yield where one of `words` stands by itself."""
    for word in words:
        at = lowered.find(word)
        while at >= 0:
            end = at + len(word)
            if not lowered[at - 1 : at].isalnum() and not lowered[end : end + 1].isalnum():
                yield at, end
            at = lowered.find(word, end)


@lru_cache(maxsize=4096)
def _is_valid(module: str, number: str) -> bool:
    if not module:
        return True
    packed = number.upper() if module in SIGNED else re.sub(r"[ :/.-]", "", number.upper())
    # Numbers for foreigners and newborns are temporary; they name a person all the same.
    more = {"allow_temporary": True} if module == "fi.hetu" else {}
    return importlib.import_module(f"stdnum.{module}").is_valid(packed, **more)


# Payment cards and bank accounts: issuer, length and checksum must agree.

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


def find_card_numbers(value: str) -> Iterator[PiiSpan]:
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
            yield PiiSpan("card", match.start(), match.end(), match[0])


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


def find_ibans(value: str) -> Iterator[PiiSpan]:
    """IBANs with or without spaces; country, length, structure and checksum must be right."""
    position = 0
    while match := IBAN.search(value, position):
        position = match.end()
        length = LENGTHS.get(match["land"].upper())
        end = _end(value, match.end(), (length or 4) - 4)
        if length is None or end is None or not _is_iban(value[match.start() : end]):
            continue
        position = end
        yield PiiSpan("iban", match.start(), end, value[match.start() : end])


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


# Those that are told apart by a checksum come first: 16 digits in fours are no phone number.
FINDERS = {
    "email": pii_spans.find_emails,
    "iban": find_ibans,
    "ip": pii_spans.find_ip_addresses,
    "card": find_card_numbers,
    "national_id": national_ids,
    "phone": pii_phones.find_phone_numbers,
    "name": pii_spans.introduced_names,
}
KINDS = tuple(FINDERS)
# Countries whose numbers a page in LANGUAGE most likely shows; en: also Canada's, as +1 is shared.
SPOKEN = {
    "de": ("DE", "AT", "CH"),
    "en": ("US", "GB", "AU", "IN", "IE", "NZ", "ZA"),
    "es": ("ES", "MX", "AR", "CO"),
    "fr": ("FR", "BE", "CH", "CA"),
    "nl": ("NL", "BE"),
    "pt": ("BR", "PT"),
    "ar": ("SA", "EG", "AE"),
    **{"cs": ("CZ",), "da": ("DK",), "el": ("GR",), "fa": ("IR",), "fi": ("FI",), "he": ("IL",)},
    **{"hi": ("IN",), "hu": ("HU",), "id": ("ID",), "it": ("IT",), "ja": ("JP",), "ko": ("KR",)},
    **{"nb": ("NO",), "no": ("NO",), "pl": ("PL",), "ro": ("RO",), "ru": ("RU",), "sk": ("SK",)},
    **{"sv": ("SE",), "th": ("TH",), "tr": ("TR",), "uk": ("UA",), "vi": ("VN",), "zh": ("CN",)},
}
PLACEHOLDER = re.compile(r"\[(EMAIL|IBAN|IP|CARD|NATIONAL_ID|PHONE|NAME)_(\d{1,6})\]")
HOST = re.compile(r"(?:\w+://)?[^/\s?#]{0,253}\.([a-z]{2})(?=[/:?#]|$)", re.I)
NO_COUNTRY = frozenset(("ai", "cc", "co", "eu", "fm", "gg", "io", "me", "tv", "ws"))


def find_personal_data(
    text: str, kinds: Collection[str] = KINDS, regions: Collection[str] = ()
) -> list[PiiSpan]:
    """Return the spans of `kinds` in `text`, in order, none inside another.

    `regions` are the countries whose national telephone numbers are looked for. Where a span is
    found, the rest is read again without it: of `030 / 1234567 (415) 555-2671`, one run of digits,
    the second number is found first, and the first one once the second is out of its way. A
    placeholder of ours in `text` is not a label: `[PHONE_1]` says nothing about what follows it.
    """
    spans: list[PiiSpan] = []
    bare = PLACEHOLDER.sub(lambda match: _blank(len(match[0])), text)
    while True:
        rest = _without(bare, spans)
        before = len(spans)
        for kind in KINDS:
            if kind in kinds:
                more = {"regions": tuple(regions)} if kind == "phone" else {}
                spans = merge_spans(spans, FINDERS[kind](rest, **more))
        if len(spans) == before:
            return spans


def _without(text: str, spans: Sequence[PiiSpan]) -> str:
    """Return `text`, as long as before, with a blank in place of each span of `spans`."""
    parts, position = [], 0
    for span in spans:
        parts += [text[position : span.start], _blank(span.end - span.start)]
        position = span.end
    return "".join((*parts, text[position:]))


def _blank(size: int) -> str:
    """Return a blank of `size` characters; its digit keeps labels from reaching across it."""
    return f"{pii_spans.GONE}0{'_' * size}"[:size]


def merge_spans(spans: list[PiiSpan], new_spans: Iterator[PiiSpan]) -> list[PiiSpan]:
    """Return `spans` and those of `new_spans` that do not overlap them, in order."""
    ranked = [(span.start, 0, span) for span in spans]
    ranked += [(span.start, 1, span) for span in new_spans]
    merged: list[tuple[int, PiiSpan]] = []
    for _, rank, span in sorted(ranked, key=lambda entry: entry[:2]):
        if merged and merged[-1][1].end > span.start:
            if rank >= merged[-1][0]:
                continue
            merged.pop()
        merged.append((rank, span))
    return [span for _, span in merged]


def phone_regions(
    language: str = "", url: str = "", preferred: Collection[str] = ()
) -> tuple[str, ...]:
    """Countries to read a page's national numbers by: `preferred`, its host's, its language's."""
    countries = list(preferred)
    top = HOST.match(url)
    if top and top[1].lower() not in NO_COUNTRY:
        countries.append({"UK": "GB"}.get(top[1].upper(), top[1].upper()))
    spoken, _, land = language.replace("_", "-").partition("-")
    countries += [land.upper()] if len(land) == 2 else []
    return tuple(dict.fromkeys((*countries, *SPOKEN.get(spoken.lower(), ()))))


def identity_key(span: PiiSpan, regions: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return what makes two spellings the same value: kind and normal form."""
    if span.kind == "phone":
        return span.kind, pii_phones.dialled_digits(span.text, regions)
    if span.kind in ("email", "name"):
        plain = re.sub(r"%40|[ ]?[\[({](?:at|ät)[\])}][ ]?", "@", span.text, flags=re.I)
        return span.kind, " ".join(plain.casefold().split())
    return span.kind, re.sub(r"[\W_]", "", span.text).casefold()
