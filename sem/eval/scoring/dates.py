"""Dates as people write them, to the day they name.

The whole text must be one date, with at most a weekday, a time and the small words around it:
a text that names two days names none. Rules where a spelling leaves a doubt:

- 03/04/2024 and 03-04-2024 name no day unless the slot says `day_first`; 13/04/2024 names one;
- 03.04.2024 is the third of April: no locale writes month first with points;
- names of months and weekdays are Babel's, of every official language; a name that means another
  month elsewhere is decided by how the date is written, by the row's language, or not at all;
- a year that comes first is followed by month, then day;
- two digits of a year are 1969 to 2068, as POSIX reads them.
"""

import re
from datetime import date
from functools import lru_cache
from typing import Any

from sem.core import locales
from sem.eval.scoring.date_words import (
    BRACKETS,
    ascii_digits,
    full_year,
    month_names,
    read_words,
    to_date,
)
from sem.eval.scoring.values import LONGEST, fold_text

__all__ = ["as_date", "month_names"]

_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925}
_ERA = re.compile(r"(令和|平成|昭和)\s?(\d{1,2}|元)\s?年")
_CJK = re.compile(
    r"(\d{4})\s?[年년]\s?(\d{1,2})\s?[月월]\s?(\d{1,2})\s?[日号號일]"
    r"\s?(?:[日月火水木金土]曜日|(?:星期|週|周)[一二三四五六日天]|[일월화수목금토]요일)?"
)
_TIME = re.compile(
    r"(?:\bum |\bat |\bkl\.? |\ba las |[t,à])?\s*(?<!\d)\d{1,2}[:h]\d{2}(?::\d{2}(?:[.,]\d+)?)?"
    r"\s*(?:[ap]\.?m\b\.?|uhr|h\b)?\s*(?:z\b|utc|gmt|[ce]e?[sd]?t\b|[pm][sd]t\b)?"
    r"(?:[+-]\d{2}:?\d{2})?"
)
_NUMERIC = re.compile(r"(\d{1,4})\s?([./-])\s?(\d{1,2})\s?\2\s?(\d{1,4})(\.)?(?:\s?[грr]\.?)?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:t\d{4}(?:\d{2})?z?)?")
_WEEK = re.compile(r"(\d{4})-?w(\d{2})-?(\d)")


def as_date(value: Any, day_first: bool | None = None, language: str | None = None) -> date | None:
    """Return the day `value` names; None when it names none, or more than one.

    `language` is that of the text, where it is known: it decides what a name or an order of
    figures means that languages read differently.
    """
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    return _read(value, day_first, language)


@lru_cache(maxsize=4096)
def _read(value: str, day_first: bool | None, language: str | None) -> date | None:
    text = ascii_digits(fold_text(value))
    text = BRACKETS.sub(" ", _ERA.sub(_era, text))
    text = _TIME.sub(" ", text, count=1).strip(" ,;")
    order = locales.order(language) if language and day_first is None else ""
    for pattern, read in _READERS:
        if match := pattern.fullmatch(text.lstrip(".")):
            first = order == "dmy" if order in ("dmy", "mdy") else day_first
            return read(match, first, order)
    return read_words(text, language)


def _ymd(match: re.Match[str], *_: Any) -> date | None:
    return to_date(*(int(part) for part in match.groups()))


def _numeric(match: re.Match[str], day_first: bool | None, order: str = "") -> date | None:
    first, mark, middle, last, point = match.groups()
    if len(first) == 4 or (order == "ymd" and len(first) == len(last) == 2):
        return to_date(full_year(first), int(middle), int(last)) if len(last) <= 2 else None
    if len(first) == 3 or len(last) not in (2, 4):
        return None
    # "24. 3. 12." is how Korean writes the year first; nobody else ends so with two digits.
    if mark == "." and point and len(last) == 2 and day_first is None:
        return None
    first_number, second_number, year = int(first), int(middle), full_year(last)
    is_open = (
        first_number <= 12
        and second_number <= 12
        and first_number != second_number
        and mark != "."
    )
    is_day_first = (
        day_first if is_open else first_number > 12 or mark == "." or first_number == second_number
    )
    if is_day_first is None:
        return None
    return (
        to_date(year, second_number, first_number)
        if is_day_first
        else to_date(year, first_number, second_number)
    )


def _week(match: re.Match[str], *_: Any) -> date | None:
    try:
        return date.fromisocalendar(*(int(part) for part in match.groups()))
    except ValueError:
        return None


_READERS = ((_COMPACT, _ymd), (_CJK, _ymd), (_WEEK, _week), (_NUMERIC, _numeric))


def _era(match: re.Match[str]) -> str:
    era, year = match.groups()
    return f"{_ERAS[era] + (1 if year == '元' else int(year))}年"
