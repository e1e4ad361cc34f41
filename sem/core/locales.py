"""What languages write, from Babel's tables (Unicode CLDR): months, weekdays, dates, currencies.

The one door to Babel. Everything here is as CLDR spells it; who compares texts folds it first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
