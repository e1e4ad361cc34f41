"""What languages write: months, weekdays and dates, currencies, units of measure.

The one door to Babel, whose tables (Unicode CLDR) hold months, weekdays and currencies as they are
spelt; who compares texts folds them first. Signs that CLDR does not list stand in `_MORE_SIGNS`.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

# Forms of a month or weekday that stand in dates; the one-letter "narrow" forms do not.
_CONTEXTS, _WIDTHS = ("format", "stand-alone"), ("wide", "abbreviated", "short")
_SKELETONS = ("yMMMd", "yMMMMd", "yMMMEd", "yMMMMEEEEd")


@dataclass(frozen=True)
class Language:
    """How one language writes dates; a pattern is a list of literals and of fields."""

    code: str
    months: tuple[tuple[str, int], ...]
    weekdays: tuple[str, ...]
    eras: tuple[str, ...]
    patterns: tuple[tuple[Any, ...], ...]
    # The order of a date in figures, as "dmy".
    order: str


@lru_cache(maxsize=1)
def load_languages() -> dict[str, Language]:
    """Return every language that is official somewhere and has names of months, by its code.

    The countries and scripts of one language are read together: Austria's "Jänner" is German.
    Takes a second or two, once.
    """
    from babel import Locale
    from babel.languages import get_official_languages
    from babel.localedata import locale_identifiers

    territories = Locale.parse("en").territories
    official = {
        name.partition("_")[0]
        for territory in territories
        for name in get_official_languages(str(territory), regional=True)
    }
    names: dict[str, list[str]] = {}
    for name in sorted(locale_identifiers()):
        names.setdefault(name.partition("_")[0], []).append(name)
    by_code = {
        code: _language(code, [Locale.parse(name) for name in names[code]])
        for code in sorted(official & names.keys())
    }
    return {code: language for code, language in by_code.items() if language.months}


def date_order(language: str) -> str:
    """Return the order of a date in figures in `language`, as "dmy"; '' where countries differ.

    English is written month first in the United States and day first elsewhere.
    """
    written = load_languages().get(language.lower().partition("-")[0])
    return written.order if written else ""


def _language(code: str, locales: Sequence[Any]) -> Language:
    from babel.dates import tokenize_pattern

    formats = [str(f.pattern) for locale in locales for f in _formats(locale)]
    figures = {"d": "d", "M": "m", "L": "m", "y": "y"}
    orders = {
        "".join(figures.get(v[0], "") for k, v in tokenize_pattern(pattern) if k == "field")
        for pattern in (str(locale.date_formats["short"].pattern) for locale in locales)
    }
    months = dict.fromkeys((name, n) for locale in locales for n, name in _forms(locale.months))
    eras = [str(n) for locale in locales for names in locale.eras.values() for n in names.values()]
    return Language(
        code=code,
        # CLDR calls months M01 to M12 where it knows no name.
        months=tuple(pair for pair in months if pair[0] != f"M{pair[1]:02}"),
        weekdays=tuple(
            dict.fromkeys(name for locale in locales for _, name in _forms(locale.days))
        ),
        eras=tuple(dict.fromkeys(eras)),
        patterns=tuple(tuple(tokenize_pattern(pattern)) for pattern in dict.fromkeys(formats)),
        order=_only(orders - {"ymd"}) or _only(orders),
    )


def _only(values: set[str]) -> str:
    return next(iter(values)) if len(values) == 1 else ""


def _formats(locale: Any) -> list[Any]:
    skeletons = locale.datetime_skeletons
    return [*locale.date_formats.values(), *(skeletons[n] for n in _SKELETONS if n in skeletons)]


def _forms(table: Any) -> Iterator[tuple[int, str]]:
    for context in _CONTEXTS:
        for width in _WIDTHS:
            yield from (
                (n, str(name)) for n, name in table.get(context, {}).get(width, {}).items()
            )


@lru_cache(maxsize=1)
def currency_spellings() -> dict[str, frozenset[str]]:
    """Return every sign, code and name of a currency -> the ISO 4217 codes it stands for."""
    from babel import Locale
    from babel.localedata import locale_identifiers

    codes_of: dict[str, set[str]] = {}
    for name in locale_identifiers():
        locale = Locale.parse(name)
        for code, sign in locale.currency_symbols.items():
            codes_of.setdefault(str(sign), set()).add(code)
    for code, name in Locale.parse("en").currencies.items():
        codes_of.setdefault(code, set()).add(code)
        # "Sudanese Dinar (1992-2007)" stands in no shop.
        if str(name).replace(" ", "").isalpha():
            codes_of.setdefault(str(name), set()).add(code)
    return {sign: frozenset(codes) for sign, codes in codes_of.items()}


@lru_cache(maxsize=256)
def territory_currencies(territory: str) -> frozenset[str]:
    """Return the ISO 4217 codes of what `territory`, an ISO 3166 code, pays with today."""
    from babel.numbers import get_territory_currencies

    return frozenset(get_territory_currencies(territory)) if len(territory) == 2 else frozenset()


def currency_decimals(currency: str) -> int:
    """Return how many decimals amounts in `currency` have: 2 in euros, 3 in Kuwaiti dinars."""
    from babel.numbers import get_currency_precision

    return int(get_currency_precision(currency))


# Sign or word -> the ISO 4217 codes it may stand for, beside those of CLDR: "$" is any dollar.
_DOLLARS = "USD CAD AUD NZD SGD HKD MXN TWD ARS CLP COP"
_CROWNS = "SEK NOK DKK ISK"
_MORE_SIGNS = {
    **dict.fromkeys(("euro", "euros", "eur."), "EUR"),
    **dict.fromkeys(("$", "＄", "dollar", "dollars"), _DOLLARS),
    **dict.fromkeys(("kr", "kr.", "kronor", "kroner", "krona", "krone"), _CROWNS),
    **dict.fromkeys(("pound", "pounds", "quid"), "GBP"),
    **dict.fromkeys(("yen", "円"), "JPY"),
    **dict.fromkeys(("元", "rmb", "yuan"), "CNY"),
    **dict.fromkeys(("zł", "zl", "zloty", "złotych"), "PLN"),
    **dict.fromkeys(("fr.", "sfr", "sfr.", "franken", "stutz"), "CHF"),
    **dict.fromkeys(("руб", "руб.", "р.", "р", "рублей"), "RUB"),
    **dict.fromkeys(("грн", "грн."), "UAH"),
    **dict.fromkeys(("rs", "rs.", "rupees"), "INR PKR LKR MUR NPR SCR"),
    **dict.fromkeys(("лв", "лв."), "BGN"),
    **dict.fromkeys(("din", "din."), "RSD DZD"),
    **dict.fromkeys(("dhs", "dhs.", "dh", "dh."), "AED MAD"),
    **dict.fromkeys(("د.إ", "درهم"), "AED"),
    "c$": "CAD",
    "ca$": "CAD",
    "a$": "AUD",
    "au$": "AUD",
    "s$": "SGD",
    "nt$": "TWD",
    "mx$": "MXN",
    "£": "GBP EGP",
    "¥": "JPY CNY",
    "원": "KRW",
    "tl": "TRY",
    "lei": "RON MDL",
    "leu": "RON MDL",
    "ft": "HUF",
    "﷼": "IRR SAR YER OMR QAR",
    "ر.س": "SAR",
    "د.م.": "MAD",
    "kč": "CZK",
    "sr": "SAR",
    "tk": "BDT",
    "tk.": "BDT",
    "ksh": "KES",
    "tsh": "TZS",
    "ush": "UGX",
    "rp.": "IDR",
    "s/.": "PEN",
    "b/.": "PAB",
    "gs": "PYG",
    "gs.": "PYG",
    "₡": "CRC",
}
# Behind a number a hundredth of a currency; before one, a currency: "99p" and "P 99", Botswana's.
_SUBUNITS = {
    **dict.fromkeys(("¢", "cent", "cents"), f"{_DOLLARS} EUR"),
    **dict.fromkeys(("ct", "ct."), "EUR"),
    **dict.fromkeys(("p", "pence"), "GBP"),
}


@lru_cache(maxsize=1)
def iso_currency_codes() -> tuple[str, ...]:
    """Return every ISO 4217 code that CLDR names."""
    return tuple(sorted(code for code in set().union(*currency_spellings().values())))


@lru_cache(maxsize=1)
def currency_codes() -> dict[str, frozenset[str]]:
    """Return folded sign, word or code -> the ISO 4217 codes it may stand for."""
    codes_of: dict[str, set[str]] = {}
    for sign, meant in currency_spellings().items():
        codes_of.setdefault(_key(sign), set()).update(meant)
    for sign, codes in _MORE_SIGNS.items():
        codes_of.setdefault(_key(sign), set()).update(codes.split())
    return {
        sign: frozenset(meant)
        for sign, meant in codes_of.items()
        if sign and sign not in _SUBUNITS
    }


@lru_cache(maxsize=1024)
def currencies_of(text: str) -> frozenset[str] | None:
    """Return the currencies that `text`, all that stands on one side of a number, may mean.

    `US $` and `$US` are the dollar of that country; `USD $` what both may be. None where
    anything in it is not of a currency.
    """
    key = _key(text)
    if not key:
        return None
    if key in _SUBUNITS:
        return currency_spellings().get(text.strip().upper())
    if key in currency_codes():
        return currency_codes()[key]
    for cut in range(1, len(key)):
        head, tail = key[:cut], key[cut:]
        for country, sign in ((head, tail), (tail, head)):
            local = territory_currencies(country.upper())
            if local and sign in currency_codes() and (both := currency_codes()[sign] & local):
                return both
        if head in currency_codes() and tail in currency_codes():
            return currency_codes()[head] & currency_codes()[tail] or None
    return None


def subunit_of(text: str) -> frozenset[str] | None:
    """Return the currencies of which `text`, behind a number, names a hundredth; else None."""
    meant = _SUBUNITS.get(text.strip())
    return frozenset(meant.split()) if meant else None


def _key(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold()
    visible = "".join(c for c in plain if unicodedata.category(c) not in ("Cf", "Zs"))
    return visible.rstrip(".") or visible


def is_money(unit: str | None) -> bool:
    """Return True if `unit` is `currency` or an ISO 4217 code."""
    return unit == "currency" or bool(
        unit and re.fullmatch("[A-Z]{3}", unit) and unit in iso_currency_codes()
    )


# dimension -> {folded names: how many of the dimension's base unit}
_MEASURES = {
    "mass": {
        "mg": "0.001",
        "g gr gram grams gramm": "1",
        "t tonne tonnes": "1000000",
        "kg kgs kilo kilos kilogram kilograms": "1000",
        "oz ounce ounces": "28.349523125",
        "lb lbs pound pounds": "453.59237",
    },
    "length": {
        "mm": "0.001",
        "cm": "0.01",
        "dm": "0.1",
        "m metre metres meter meters": "1",
        "km": "1000",
        "in inch inches zoll \" ''": "0.0254",
        "ft foot feet '": "0.3048",
        "yd yard yards": "0.9144",
        "mi mile miles": "1609.344",
    },
    "volume": {"ml": "0.001", "cl": "0.01", "dl": "0.1", "l litre litres liter liters": "1"},
    "time": {
        "ms": "0.001",
        "s sec secs second seconds": "1",
        "min mins min. minute minutes minuten": "60",
        "h hr hrs hour hours std std. stunde stunden heure heures hora horas": "3600",
        "d day days tag tage": "86400",
    },
    "data": {
        "b byte bytes": "1",
        "kb": "1000",
        "mb": "1000000",
        "gb": "1000000000",
        "tb": "1000000000000",
        "kib": "1024",
        "mib": "1048576",
        "gib": "1073741824",
    },
    "power": {"w watt watts": "1", "kw": "1000", "mw": "1000000"},
    "energy": {"wh": "1", "kwh": "1000"},
    "voltage": {"mv": "0.001", "v volt volts": "1", "kv": "1000"},
    "share": {"% percent pct prozent pour-cent": "1", "‰": "0.1"},
}


@lru_cache(maxsize=1)
def unit_conversions() -> dict[str, tuple[str, Decimal]]:
    """Folded unit name -> its dimension and how many base units it is."""
    return {
        name: (dimension, Decimal(factor))
        for dimension, units in _MEASURES.items()
        for names, factor in units.items()
        for name in names.split()
    }


def is_known_unit(unit: str) -> bool:
    """Return whether a slot may name `unit`.

    `currency`, an ISO 4217 code, or a unit of measure.
    """
    return unit.casefold() in unit_conversions() or is_money(unit)


def known_units() -> list[str]:
    """Return everything a slot may name as its unit."""
    return ["currency", *iso_currency_codes(), *unit_conversions()]
