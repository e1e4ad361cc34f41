"""National identity, tax and health numbers, by the maintained modules of python-stdnum.

A row is a shape, a module and the words that name the number. A shape that nothing else has (a
letter in its place, dashes, a date inside) is enough; digits alone need one of the words nearby.
"""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sem.dataset.personal.pii_spans import GONE, Span

# a sign in them counts.
SIGNED = ("fi.hetu", "kr.rrn", "se.personnummer")
# Characters around a number in which a word must stand.
NEAR = 60
# Of a number, and of what must not follow it.
MAX_ID_CHARS = 40


@dataclass(frozen=True)
class Known:
    """One kind of number: its shape, its module in stdnum ('' for none), words that name it."""

    shape: re.Pattern[str]
    module: str
    # none: the shape is enough.
    words: tuple[str, ...] = ()


def _sure(shape: str, module: str) -> Known:
    return Known(re.compile(shape, re.I), module)


def _named(shape: str, module: str, *words: str) -> Known:
    return Known(re.compile(rf"(?<![\w.,+-])(?:{shape})(?![\w-])", re.I), module, words)


# Shapes that are enough.
SURE = (
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


def national_ids(value: str) -> Iterator[Span]:
    """Numbers that a state gave a person; their checksum must be right where they have one."""
    for token in TOKEN.finditer(value):
        number = token[0].rstrip(".+-")
        if any(k.shape.fullmatch(number) and _is_valid(k.module, number) for k in SURE):
            yield Span("national_id", token.start(), token.start() + len(number), number)
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
                    yield Span("national_id", *match.span(), match[0])


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
