"""One find of personal data, what the words beside it say, and the kinds that need no checksum.

Every pattern here is linear: it starts at a rare character or at the start of a run, and looks a
bounded number of characters to either side.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sem.dataset.html import words

# Of private use: the first character of the text in place of an earlier find.
GONE = "\ue000"
# Characters in which a label may stand before a number.
BEFORE = 48
# And after it, as in `040 123456 fax`.
AFTER = 14
# A label names what the number behind it is; the nearest one counts.
LABELS = re.compile(
    r"(?P<phone>\b(?:contact (?:number|no)|tfno|tlf|tel(?!\.? aviv)|t[eé]l[eé][fp]\w{0,12}|tél|"
    r"phone|phones(?=:)|ph|fax(?:es)?|faks\w{0,3}|"
    r"fon|mob(?:ile?|il)?|m[oó]vil|cell(?:ulare?)?|handy|gsm|whats ?app|sms|hotline|helpline|"
    r"toll[- ]free|rufnummer|puh(?:elin)?|тел(?:ефон)?|τηλ|phone_number)\b|"
    r"(?<![\w.])[tmfp][:.](?=\s)|电话|電話|전화|טלפון|هاتف)"
    r"|(?P<call>\b(?:call(?:ing)?|text(?: me| us)?|contact|reach|dial|ring|messages? to|answering|"
    r"appelez|chiama|llam[ae]|bel|anrufen)\b|\b(?:desk|office|home|work|kontakt)(?=:)|[☎☏📞✆])"
    r"|(?P<goods>\b(?:isbn(?:[- ]?1[03])?|issn|ean(?:[- ]?(?:8|13))?|gtin(?:[- ]?1[34])?|upc|asin|"
    r"skus?|mpn|imei|art(?:icle|ikel)?|item|part|model|serial|order|bestell|invoice|rechnung|"
    r"tracking|product|produkt|catalog(?:ue)?|lot|batch|barcode|ref(?:erence|erenz)?|code|plz|zip|"
    r"vat|ust|hrb|patent|doi|oclc|pmid|zvg|cas)\b)"
    r"|(?P<card>\b(?:(?:credit|debit|bank|payment|kredit)[- ]?(?:card|karte)s?|cards?|cc|visa|"
    r"master ?card|amex|american express|maestro|diners|jcb|carte|tarjeta|carta|karte|"
    r"kartennummer|pan)\b)"
    r"|(?P<version>\b(?:versions?|ver|v|release|firmware|build|rev(?:ision)?|driver|update|"
    r"chrome|safari|firefox|mozilla|webkit|section|chapter|clause|kapitel|abschnitt|§)(?![\w]))"
    r"|(?P<ip>\b(?:ip(?:v[46])?|address|host|server|subnet|gateway|dns|ping|client|route|prefix)\b)",
    re.I,
)
TRAILING = re.compile(
    r"\W{0,3}\b(?:office|fax|mobile|cell|home|work|tel|phone|\(?[mthf]\)?)\b", re.I
)

FILLED = re.compile(
    r"(?:[\W_]*\b(?:nos?|nr|n|num(?:ber|éro|ero)?s?|nummer|is|at|on|to|us|uns|unter|me|or|oder|and|und|"
    r"free|gratis|tel|fax)\b)*"
)
WORD = re.compile(r"[^\W\d_]+")
# An id in an advertiser's link stands hundreds of characters behind the last slash.
MAX_ADDRESS = 1_200
PARAMETER = re.compile(r"(?:[?&;]|%26|%3F)[\w.%-]{1,60}(?:=|%3D)", re.I)
LINKED = re.compile(r"(?:tel|phone|fax|callto|sms|wa\.me|whatsapp)[:=/+]{1,4}\Z", re.I)


@dataclass(frozen=True)
class PiiSpan:
    """Characters `start` to `end` of a text, which are personal data of `kind`."""

    kind: str
    start: int
    end: int
    text: str


def nearest_label(value: str, start: int) -> str:
    """Return the kind of the nearest label before `start`, with no digit between; '' for none."""
    return _nearest(value, start)[0]


def is_tight(value: str, start: int, words: int = 1) -> bool:
    """Return whether between label and `start` stand only `no.`, `is` and the like, and `words`
    more.
    """
    between = _nearest(value, start)[1]
    filled = FILLED.match(between)
    return filled is not None and len(WORD.findall(between, filled.end())) <= words


def _nearest(value: str, start: int) -> tuple[str, str]:
    """Return the kind of the nearest label before `start`, and what stands between the two."""
    window = value[max(0, start - BEFORE) : start]
    labels = list(LABELS.finditer(window))
    last = labels[-1] if labels else None
    between = window[last.end() :] if last else "0"
    if last is None or any(map(str.isdigit, between)):
        return "", ""
    # `Contact us` is the heading of a page; what stands below it may be anything.
    is_weak = last.lastgroup == "call" and "\n" in between
    return ("" if is_weak else last.lastgroup or ""), between


def labelled_after(value: str, end: int) -> bool:
    """Return whether the words after `end` say that a telephone number stands before them."""
    return TRAILING.match(value[end : end + AFTER]) is not None


def in_address(value: str, start: int) -> bool:
    """Return whether `start` stands inside a web address or path, where digits are page
    numbers.
    """
    if start == 0 or value[start - 1].isspace():
        return False
    token = value[max(0, start - MAX_ADDRESS) : start].rsplit(None, 1)[-1]
    is_address = "/" in token or PARAMETER.search(token) is not None
    return is_address and LINKED.search(token) is None


AT = re.compile(r"@|%40|[ ]?[\[({](?:at|ät)[\])}][ ]?", re.I)
LOCAL = re.compile(r"[\w.!#$&'*+/=?^`{|}~-]{1,64}\Z")
HOST = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.|[ ]?[\[({](?:dot|punkt)[\])}][ ]?)){1,8}"
    r"(?P<top>xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})(?![\w@])",
    re.I,
)
FILES = words.to_set("png jpg jpeg gif webp svg avif ico css js mjs json html php xml pdf mp3 mp4")


def find_emails(value: str) -> Iterator[PiiSpan]:
    """E-mail addresses, also `%40` in links and `name (at) host`; `logo@2x.png` is none."""
    for at in AT.finditer(value):
        local = LOCAL.search(value[max(0, at.start() - 64) : at.start()])
        host = HOST.match(value, at.end(), at.end() + 255)
        if local is None or host is None or host["top"].lower() in FILES:
            continue
        name = local[0].split("=")[-1].rsplit("/", 1)[-1].lstrip(".?&#!'`{|}~-")
        if name and not name.endswith("."):
            start = at.start() - len(name)
            yield PiiSpan("email", start, host.end(), value[start : host.end()])


IP4 = re.compile(
    r"(?<![\w.@])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)(?:/(?:[12]?\d|3[0-2])(?![\w./]))?"
)
COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
IP6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:])[0-9A-Fa-f:]{3,39}(?:\.\d{1,3}){0,3}(?![\w:]|\.\w)"
    r"(?:/(?:1[01]\d|12[0-8]|\d\d?)(?![\w./]))?"
)


def find_ip_addresses(value: str) -> Iterator[PiiSpan]:
    """IP addresses, v4 and v6, with their prefix length; `Chrome/120.0.0.0` is a version."""
    if value.count(".") >= 3:
        for match in IP4.finditer(value):
            if _is_ip(match[0]) and not _is_version(value, match):
                yield PiiSpan("ip", match.start(), match.end(), match[0])
    if COLONS.search(value):
        for match in IP6.finditer(value):
            if match[0].count(":") >= 2 and _is_ip(match[0]):
                yield PiiSpan("ip", match.start(), match.end(), match[0])


def _is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_interface(text).ip
    except ValueError:
        return False
    # `::1` and `ff02::1` name no one, and `Home :: Shop` is a breadcrumb.
    return address.version == 4 or text.count(":") > 2 or "." in text


def _is_version(value: str, match: re.Match[str]) -> bool:
    named = nearest_label(value, match.start())
    if named == "ip":
        return False
    digits = match[0].split("/")[0].split(".")
    is_path = (
        value[match.start() - 1 : match.start()] == "/"
        and "://" not in value[max(0, match.start() - 8) : match.start()]
    )
    return named in ("version", "goods") or is_path or all(len(part) == 1 for part in digits)


CAPITAL = r"(?:(?-i:[A-ZÀ-ÖØ-ÞĀ-ŽΑ-ΩА-Я])[\w'’.-]{0,30})"
INTRODUCED = re.compile(
    r"\b(?:(?:mrs?|ms|miss|mx|dr|prof|herr|frau|hr|fr|mme|mlle|monsieur|madame|sig(?:nora?|\.ra)?|"
    r"sra?|señora?|don|doña|sir|dame|rev)\b\.?[ ]|"
    r"(?:contact(?: person)?|ansprechpartner(?:in)?|author|autor|by|signed|name|sincerely|regards|"
    r"attn|owner|inhaber|geschäftsführer|ceo|managing director)[ ]?[:,][ \n]?|"
    r"(?:my name is|i am called|ich heiße|je m'appelle|me llamo|mi chiamo)[ ])"
    r"(?:(?:mrs?|ms|dr|prof|dipl|ing|herr|frau)\b\.?[ -]){0,3}"
    r"(?!(?:mrs?|ms|dr|prof|dipl|ing|herr|frau)\b)"
    rf"(?P<name>{CAPITAL}(?:[ ](?:(?:van|von|de|der|den|di|da|la|le|al|bin|zu)[ ]){{0,2}}"
    rf"{CAPITAL}){{0,3}})",
    re.I,
)


def introduced_names(value: str) -> Iterator[PiiSpan]:
    """Yield names of people where the page introduces them: a title, `contact:`, `my name is`.

    A cautious pattern and no model of language: it misses most names, which stand in plain
    sentences, and takes a company for a person where the page does (`contact: Acme Ltd`). A sem
    that must not learn names redacts the slots that hold them as well (`pii.slots`).
    """
    for match in INTRODUCED.finditer(value):
        name = match["name"].rstrip(".'’-")
        yield PiiSpan("name", match.start("name"), match.start("name") + len(name), name)
