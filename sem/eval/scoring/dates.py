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
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from sem.core import locales
from sem.eval.scoring.values import LONGEST, fold_text

# Dates with a month's name, in the languages of Babel's tables.
#
# A name is folded: without case, typography and, in the languages that people write so, accents.

# Words of dates that no pattern of CLDR holds, by language.
_SMALL_WORDS = {
    "cs": "dne roku",
    "da": "d den",
    "de": "den der dem",
    "en": "of the on",
    "es": "a de del el",
    "fr": "le",
    "it": "il",
    "nl": "op",
    "no": "den d",
    "nb": "den d",
    "pl": "r roku",
    "pt": "de do da em",
    "ru": "г года",
    "sv": "den",
    "uk": "року р",
}
# Languages whose names may be cut ("Sept", "juil") and lose their accents. In others a beginning
# means another month, and the German "MAERZ" would be Luxembourgish.
_CUT = frozenset(
    (
        *("cs", "da", "de", "el", "en", "es", "fr", "hu", "it", "nb", "nl", "no", "pl", "pt"),
        *("ro", "ru", "sv", "tr", "uk"),
    )
)
MIN_CUT = 3
# "sánzá ya zómi na míbalé" is December in Lingala.
MAX_NAME_WORDS = 7
BRACKETS = re.compile(r"\(\w{1,4}\.?\)")
# Stand for a month, a weekday, a year and a day in the shape of a date.
_MONTH, _WEEKDAY, _YEAR, _DAY = "\x01", "\x02", "\x03", "\x04"
_TOKEN = re.compile(r"\d+|[^\s\d.,;:()/\u060c\u3001\u3002-]+")
_ORDINAL = re.compile(r"(\d{1,2})(?:st|nd|rd|th|er|re|e|o|a)\b")


@dataclass(frozen=True)
class _DateWords:
    """What one language calls things, folded; a name is the tuple of its words."""

    months: dict[tuple[str, ...], int]
    weekdays: frozenset[tuple[str, ...]]
    words: frozenset[str]
    shapes: frozenset[str]


def read_words(text: str, language: str | None) -> date | None:
    """Return the day of a text with a month's name: 12 de marzo de 2024, March 12th, 2024.

    Names clash: "listopad" is October in Croatian and November in Polish. A language that writes
    exactly so comes first, then one that knows every word, then a name that means one month in
    all of them; `language` decides between equals, else they must agree.
    """
    text = _ORDINAL.sub(r"\1 ", text)
    exact: dict[str, date] = {}
    possible: dict[str, date] = {}
    clear: set[date] = set()
    for name, before, after in _month_places(text):
        rest = f"{before} {after}"
        numbers = [word for word in _TOKEN.findall(rest) if word.isdigit()]
        words = [plain_word(word) for word in _TOKEN.findall(rest) if not word.isdigit()]
        for code, number in _by_month()[name]:
            day = _day_of(numbers, number)
            if day is None:
                continue
            if any(s in _languages()[code].shapes for s in _shapes(before, after, code)):
                exact[code] = day
            elif set(words) <= _languages()[code].words:
                possible[code] = day
        month = month_names().get(" ".join(name))
        if month and set(words) <= _vocabulary() and (day := _day_of(numbers, month)):
            clear.add(day)
    for reading in (exact, possible):
        if language in reading:
            return reading[language]
    days = set(exact.values()) or set(possible.values()) or clear
    return days.pop() if len(days) == 1 else None


def _day_of(numbers: list[str], month: int) -> date | None:
    if len(numbers) != 2:
        return None
    day, year = reversed(numbers) if len(numbers[0]) == 4 else numbers
    if len(day) > 2 or len(year) not in (2, 4):
        return None
    return to_date(full_year(year), month, int(day))


def _month_places(text: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield every month's name in `text` with what stands before and after it."""
    for start, end in _places(text):
        written = text[start:end]
        for name in {_name(written), _name(written, is_plain=False)} & _by_month().keys():
            yield name, text[:start], text[end:]


def _shapes(before: str, after: str, code: str) -> Iterator[str]:
    """Yield the shapes of a date around its month: punctuation and words, as `code` has them."""
    whole = f"{before}{_MONTH}{after}"
    yield _shape(whole)
    for start, end in _places(whole):
        if _name(whole[start:end]) in _languages()[code].weekdays:
            yield _shape(f"{whole[:start]}{_WEEKDAY}{whole[end:]}")


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each run of up to MAX_NAME_WORDS words of `text` begins and ends."""
    tokens = list(_TOKEN.finditer(text))
    for first, token in enumerate(tokens):
        for last in tokens[first : first + MAX_NAME_WORDS]:
            yield token.start(), last.end()


def _shape(text: str) -> str:
    text = re.sub(r"(?<!\d)\d{4}(?!\d)", _YEAR, text)
    return _packed(re.sub(r"(?<!\d)\d{1,2}(?!\d)", _DAY, text))


def _packed(text: str) -> str:
    # The point of an abbreviated month or weekday belongs to the name: "5 jan. 2024".
    return re.sub(f"([{_MONTH}{_WEEKDAY}])\\.", r"\1", "".join(plain_word(text).split()))


@lru_cache(maxsize=1)
def _languages() -> dict[str, _DateWords]:
    return {code: _names(language) for code, language in locales.load_languages().items()}


def _names(language: locales.Language) -> _DateWords:
    patterns = [_pattern_text(pattern) for pattern in language.patterns]
    months: dict[tuple[str, ...], set[int]] = {}
    cut: dict[str, set[int]] = {}
    for written, number in language.months:
        name = _name(written, language.code in _CUT)
        # Figures alone are no name, and those of CJK are read by their own pattern.
        if name and not "".join(name).isdigit() and not name[-1].endswith(("月", "월")):
            for form in _with_affixes(name, _MONTH, patterns):
                months.setdefault(form, set()).add(number)
        if language.code in _CUT and len(name) == 1:
            for length in range(MIN_CUT, len(name[0])):
                cut.setdefault(name[0][:length], set()).add(number)
    named = {(begin,): numbers for begin, numbers in cut.items()} | months
    # Tsonga abbreviates January and February alike.
    clear = {name: numbers.pop() for name, numbers in named.items() if len(numbers) == 1}
    weekdays = {
        name
        for written in language.weekdays
        for name in _with_affixes(_name(written), _WEEKDAY, patterns)
    }
    others = [*language.eras, *patterns, *(" ".join(name) for name in weekdays)]
    words = {plain_word(word) for text in others for word in _TOKEN.findall(fold_text(text))}
    words |= set(_SMALL_WORDS.get(language.code, "").split())
    shapes = {_packed(re.sub(_affix(_MONTH), _MONTH, text)) for text in patterns}
    shapes = {re.sub(_affix(_WEEKDAY), _WEEKDAY, shape) for shape in shapes}
    return _DateWords(clear, frozenset(weekdays), frozenset(words), frozenset(shapes))


def _affix(mark: str) -> str:
    return rf"([^\s\d.,;:()/\x01-\x04-]*){mark}([^\s\d.,;:()/\x01-\x04-]*)"


def _with_affixes(
    name: tuple[str, ...], mark: str, patterns: Sequence[str]
) -> set[tuple[str, ...]]:
    """Return `name`, and `name` as patterns write it in one word.

    Hebrew writes "בינואר" for "in January", Basque "urtarrilaren" for "of January".
    """
    affixes = {m.groups() for text in patterns if (m := re.search(_affix(mark), text))}
    forms = {name}
    for before, after in affixes if name else ():
        forms.add(
            _name(f"{plain_word(before)}{' '.join(name)}{plain_word(after)}", is_plain=False)
        )
    return forms


def _name(written: str, is_plain: bool = True) -> tuple[str, ...]:
    words = [_bare(word) for word in _TOKEN.findall(ascii_digits(fold_text(written)))]
    return tuple(plain_word(word) if is_plain else word for word in words)


def _bare(word: str) -> str:
    """Return `word` without the punctuation that scripts beside ours end it with."""
    while word and unicodedata.category(word[-1])[0] == "P":
        word = word[:-1]
    return word


def _pattern_text(pattern: Sequence[tuple[str, Any]]) -> str:
    marks = {"y": _YEAR, "d": _DAY, "M": _MONTH, "L": _MONTH, "E": _WEEKDAY, "c": _WEEKDAY}
    text = "".join(v if kind == "chars" else marks.get(v[0], "") for kind, v in pattern)
    return BRACKETS.sub(" ", text.casefold())


@lru_cache(maxsize=1)
def _by_month() -> dict[tuple[str, ...], list[tuple[str, int]]]:
    """Return name -> the languages that know it, each with the month it means there."""
    uses: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for code, names in _languages().items():
        for name, number in names.months.items():
            uses.setdefault(name, []).append((code, number))
    return uses


@lru_cache(maxsize=1)
def month_names() -> dict[str, int]:
    """Return folded month name -> its number, where it means the same month in every language."""
    names = {}
    for name in _by_month():
        # Who writes a name with its accents may mean the language that writes none.
        uses = [*_by_month()[name], *_by_month().get(tuple(map(plain_word, name)), ())]
        months = {number for _, number in uses}
        if len(months) == 1:
            names[" ".join(name)] = months.pop()
    return names


@lru_cache(maxsize=1)
def _vocabulary() -> frozenset[str]:
    words = {word for code in _SMALL_WORDS for word in _languages()[code].words}
    return frozenset(words) - {word for name in _by_month() for word in name}


def plain_word(word: str) -> str:
    """Return `word` folded, without accents; a Turkish dotless i has its dot."""
    bare = unicodedata.normalize("NFKD", fold_text(word)).replace("ı", "i")
    return "".join(c for c in bare if not unicodedata.combining(c))


def ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def full_year(digits: str) -> int:
    year = int(digits)
    return year if len(digits) > 2 else year + (1900 if year > 68 else 2000)


def to_date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


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
    order = locales.date_order(language) if language and day_first is None else ""
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
