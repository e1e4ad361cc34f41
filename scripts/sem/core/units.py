"""Currencies and units of measure, as texts write them."""

from decimal import Decimal
from functools import lru_cache

# Folded sign, word or code -> the ISO 4217 codes it may stand for: "$" is any dollar.
_DOLLARS = "USD CAD AUD NZD SGD HKD MXN TWD ARS CLP COP"
_CROWNS = "SEK NOK DKK ISK"
_SIGNS = {
    "€": "EUR", "euro": "EUR", "euros": "EUR", "eur.": "EUR",
    "$": _DOLLARS, "dollar": _DOLLARS, "dollars": _DOLLARS, "us$": "USD", "c$": "CAD",
    "ca$": "CAD", "a$": "AUD", "au$": "AUD", "nz$": "NZD", "s$": "SGD", "hk$": "HKD",
    "nt$": "TWD", "mx$": "MXN", "r$": "BRL", "£": "GBP EGP", "pound": "GBP", "pounds": "GBP",
    "¥": "JPY CNY", "円": "JPY", "元": "CNY", "rmb": "CNY", "kr": _CROWNS, "kr.": _CROWNS,
    "zł": "PLN", "zl": "PLN", "fr.": "CHF", "sfr": "CHF", "sfr.": "CHF", "kč": "CZK", "ft": "HUF",
    "₽": "RUB", "руб": "RUB", "руб.": "RUB", "р.": "RUB", "₴": "UAH", "грн": "UAH", "грн.": "UAH",
    "₹": "INR", "rs": "INR PKR LKR", "rs.": "INR PKR LKR", "₩": "KRW", "원": "KRW", "₺": "TRY",
    "tl": "TRY", "₪": "ILS", "฿": "THB", "₫": "VND", "₱": "PHP", "₦": "NGN", "lei": "RON",
    "лв": "BGN", "лв.": "BGN",
}  # fmt: skip
_CODE_LIST = (
    "EUR USD GBP CHF JPY CNY SEK NOK DKK ISK PLN CZK HUF RON BGN RUB UAH TRY ILS INR PKR LKR BRL "
    "CAD AUD NZD SGD HKD TWD MXN ARS CLP COP KRW THB VND PHP IDR MYR NGN ZAR EGP AED SAR"
)
CODES = tuple(_CODE_LIST.split())
CURRENCIES = {sign: frozenset(codes.split()) for sign, codes in _SIGNS.items()} | {
    code.casefold(): frozenset([code]) for code in CODES
}

# dimension -> {folded names: how many of the dimension's base unit}
_MEASURES = {
    "mass": {"mg": "0.001", "g gr gram grams gramm": "1", "t tonne tonnes": "1000000",
             "kg kgs kilo kilos kilogram kilograms": "1000",
             "oz ounce ounces": "28.349523125", "lb lbs pound pounds": "453.59237"},
    "length": {"mm": "0.001", "cm": "0.01", "dm": "0.1", "m metre metres meter meters": "1",
               "km": "1000", "in inch inches zoll \" ''": "0.0254", "ft foot feet '": "0.3048",
               "yd yard yards": "0.9144", "mi mile miles": "1609.344"},
    "volume": {"ml": "0.001", "cl": "0.01", "dl": "0.1",
               "l litre litres liter liters": "1"},
    "time": {"ms": "0.001", "s sec secs second seconds": "1",
             "min mins min. minute minutes minuten": "60",
             "h hr hrs hour hours std std. stunde stunden heure heures hora horas": "3600",
             "d day days tag tage": "86400"},
    "data": {"b byte bytes": "1", "kb": "1000", "mb": "1000000", "gb": "1000000000",
             "tb": "1000000000000", "kib": "1024", "mib": "1048576", "gib": "1073741824"},
    "power": {"w watt watts": "1", "kw": "1000", "mw": "1000000"},
    "energy": {"wh": "1", "kwh": "1000"},
    "voltage": {"mv": "0.001", "v volt volts": "1", "kv": "1000"},
    "share": {"% percent pct prozent pour-cent": "1", "‰": "0.1"},
}  # fmt: skip


@lru_cache(maxsize=1)
def measures() -> dict[str, tuple[str, Decimal]]:
    """Folded unit name -> its dimension and how many base units it is."""
    return {
        name: (dimension, Decimal(factor))
        for dimension, units in _MEASURES.items()
        for names, factor in units.items()
        for name in names.split()
    }


def is_known(unit: str) -> bool:
    """Whether a slot may name UNIT: `currency`, an ISO 4217 code, or a unit of measure."""
    return unit == "currency" or unit in CODES or unit.casefold() in measures()


def known() -> list[str]:
    """Everything a slot may name as its unit."""
    return ["currency", *CODES, *measures()]
