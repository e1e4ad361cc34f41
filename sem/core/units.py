"""Currencies and units of measure, as texts write them.

Signs, codes and names of currencies are Babel's, of every language; what pages write and CLDR does
not list stands in `_MORE_SIGNS`.
"""

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache

from sem.core import locales

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


def __getattr__(name: str) -> object:
    # Read when they are asked for: CLDR's tables take a second.
    if name == "CODES":
        return iso_currency_codes()
    if name == "CURRENCIES":
        return currency_codes()
    raise AttributeError(name)


@lru_cache(maxsize=1)
def iso_currency_codes() -> tuple[str, ...]:
    """Return every ISO 4217 code that CLDR names."""
    return tuple(sorted(code for code in set().union(*locales.currency_spellings().values())))


@lru_cache(maxsize=1)
def currency_codes() -> dict[str, frozenset[str]]:
    """Return folded sign, word or code -> the ISO 4217 codes it may stand for."""
    codes_of: dict[str, set[str]] = {}
    for sign, meant in locales.currency_spellings().items():
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
        return locales.currency_spellings().get(text.strip().upper())
    if key in currency_codes():
        return currency_codes()[key]
    for cut in range(1, len(key)):
        head, tail = key[:cut], key[cut:]
        for country, sign in ((head, tail), (tail, head)):
            local = locales.territory_currencies(country.upper())
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
