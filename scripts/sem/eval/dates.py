"""Dates as people write them, to the day they name.

The whole text must be one date, with at most a weekday, a time and the small words around it:
a text that names two days names none. Rules where a spelling leaves a doubt:

- 03/04/2024 and 03-04-2024 name no day unless the slot says `day_first`; 13/04/2024 names one;
- 03.04.2024 is the third of April: no locale writes month first with points;
- a year that comes first is followed by month, then day;
- two digits of a year are 1969 to 2068, as POSIX reads them.
"""

import re
import unicodedata
from datetime import date
from functools import lru_cache
from typing import Any

from sem.eval.values import LONGEST, folded

# Full names, January to December; a genitive or second form after a slash.
_MONTHS = """
january february march april may june july august september october november december
januar/jänner februar/feber märz april mai juni juli august september oktober november dezember
janvier février mars avril mai juin juillet août septembre octobre novembre décembre
enero febrero marzo abril mayo junio julio agosto septiembre/setiembre octubre noviembre diciembre
gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre
januari februari maart april mei juni juli augustus september oktober november december
styczeń/stycznia luty/lutego marzec/marca kwiecień/kwietnia maj/maja czerwiec/czerwca \
lipiec/lipca sierpień/sierpnia wrzesień/września październik/października listopad/listopada \
grudzień/grudnia
janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro
januari februari mars april maj juni juli augusti september oktober november december
januar februar marts april maj juni juli august september oktober november december
januar februar mars april mai juni juli august september oktober november desember
tammikuu/tammikuuta helmikuu/helmikuuta maaliskuu/maaliskuuta huhtikuu/huhtikuuta \
toukokuu/toukokuuta kesäkuu/kesäkuuta heinäkuu/heinäkuuta elokuu/elokuuta syyskuu/syyskuuta \
lokakuu/lokakuuta marraskuu/marraskuuta joulukuu/joulukuuta
leden/ledna únor/února březen/března duben/dubna květen/května červen/června \
červenec/července srpen/srpna září/září říjen/října listopad/listopadu prosinec/prosince
ianuarie februarie martie aprilie mai iunie iulie august septembrie octombrie noiembrie decembrie
január február március április május június július augusztus szeptember október november december
ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık
январь/января февраль/февраля март/марта апрель/апреля май/мая июнь/июня июль/июля \
август/августа сентябрь/сентября октябрь/октября ноябрь/ноября декабрь/декабря
січень/січня лютий/лютого березень/березня квітень/квітня травень/травня червень/червня \
липень/липня серпень/серпня вересень/вересня жовтень/жовтня листопад/листопада грудень/грудня
ιανουάριος/ιανουαρίου φεβρουάριος/φεβρουαρίου μάρτιος/μαρτίου απρίλιος/απριλίου μάιος/μαΐου \
ιούνιος/ιουνίου ιούλιος/ιουλίου αύγουστος/αυγούστου σεπτέμβριος/σεπτεμβρίου \
οκτώβριος/οκτωβρίου νοέμβριος/νοεμβρίου δεκέμβριος/δεκεμβρίου
"""
_SMALL_WORDS = "of the de del d le la el il den der dem di do da am on på a г года року r roku den"
_WEEKDAYS = """
monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat
sun montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag mo mi fr sa so lundi
mardi mercredi jeudi vendredi samedi dimanche lun mer jeu ven sam dim lunes martes miércoles
jueves viernes sábado domingo mié jue vie sáb dom lunedì martedì mercoledì giovedì venerdì sabato
domenica gio sab maandag dinsdag woensdag donderdag vrijdag zaterdag zondag ma wo vr za zo
poniedziałek wtorek środa czwartek piątek sobota niedziela segunda terça quarta quinta sexta feira
seg ter qua qui sex måndag tisdag onsdag torsdag fredag lördag söndag понедельник вторник среда
четверг пятница суббота воскресенье пн вт ср чт пт сб вс
"""
_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925}
_ERA = re.compile(r"(令和|平成|昭和)\s?(\d{1,2}|元)\s?年")
_CJK = re.compile(r"(\d{4})\s?[年년]\s?(\d{1,2})\s?[月월]\s?(\d{1,2})\s?[日号號일]")
_TIME = re.compile(
    r"(?:\bum |\bat |\bkl\.? |\ba las |[t,à])?\s*(?<!\d)\d{1,2}[:h]\d{2}(?::\d{2}(?:[.,]\d+)?)?"
    r"\s*(?:[ap]\.?m\b\.?|uhr|h\b)?\s*(?:z\b|utc|gmt|[ce]e?[sd]?t\b|[pm][sd]t\b)?"
    r"(?:[+-]\d{2}:?\d{2})?"
)
_NUMERIC = re.compile(r"(\d{1,4})\s?([./-])\s?(\d{1,2})\s?\2\s?(\d{1,4})\.?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:t\d{4}(?:\d{2})?z?)?")
_WEEK = re.compile(r"(\d{4})-?w(\d{2})-?(\d)")
_ORDINAL = re.compile(r"(\d{1,2})(?:st|nd|rd|th|er|re|e|o|a)\b")
_WORD = re.compile(r"[^\W\d_]+|\d+")


def as_date(value: Any, day_first: bool | None = None) -> date | None:
    """The day VALUE names; None when it names none, or more than one."""
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    text = _digits(folded(value))
    text = re.sub(r"\(\w{1,4}\.?\)", " ", _ERA.sub(_era, text))
    text = _TIME.sub(" ", text, count=1).strip(" ,.;")
    for pattern, read in _READERS:
        if match := pattern.fullmatch(text):
            return read(match, day_first)
    return _in_words(text)


def _ymd(match: re.Match[str], _: bool | None) -> date | None:
    return _date(*(int(part) for part in match.groups()))


def _numeric(match: re.Match[str], day_first: bool | None) -> date | None:
    first, mark, middle, last = match.groups()
    if len(first) == 4:
        return _date(int(first), int(middle), int(last)) if len(last) <= 2 else None
    if len(first) == 3 or len(last) not in (2, 4):
        return None
    one, two, year = int(first), int(middle), _year(last)
    is_open = one <= 12 and two <= 12 and one != two and mark != "."
    is_day_first = day_first if is_open else one > 12 or mark == "." or one == two
    if is_day_first is None:
        return None
    return _date(year, two, one) if is_day_first else _date(year, one, two)


def _week(match: re.Match[str], _: bool | None) -> date | None:
    try:
        return date.fromisocalendar(*(int(part) for part in match.groups()))
    except ValueError:
        return None


_READERS = ((_COMPACT, _ymd), (_CJK, _ymd), (_WEEK, _week), (_NUMERIC, _numeric))


def _in_words(text: str) -> date | None:
    """The day of a text with a month's name: 12 de marzo de 2024, March 12th, 2024."""
    words = _WORD.findall(_ORDINAL.sub(r"\1 ", text))
    numbers = [word for word in words if word.isdigit()]
    names = [_plain(word) for word in words if not word.isdigit()]
    kept = [name for name in names if name not in _vocabulary()]
    months = [name for name in kept if name in month_names()]
    # French "mar. 12 mars": a weekday and a month may be spelt alike, and the weekday leads.
    if len(months) == 2 and months[0] == "mar" and names[0] == "mar":
        kept, months = kept[1:], months[1:]
    if len(months) != 1 or len(kept) != 1 or len(numbers) != 2:
        return None
    if len(numbers[0]) == 4:
        numbers.reverse()
    day, year = numbers
    if len(day) > 2 or len(year) not in (2, 4):
        return None
    return _date(_year(year), month_names()[months[0]], int(day))


@lru_cache(maxsize=1)
def month_names() -> dict[str, int]:
    """Folded month name -> its number; a beginning of three letters or more counts if clear."""
    names: dict[str, int] = {}
    beginnings: dict[str, set[int]] = {}
    for line in _MONTHS.strip().splitlines():
        for number, forms in enumerate(line.split(), 1):
            for form in map(_plain, forms.split("/")):
                names[form] = number
                if not form.endswith(("kuu", "kuuta")):  # "mar" is no November in Finnish
                    for length in range(3, len(form)):
                        beginnings.setdefault(form[:length], set()).add(number)
    clear = {start: months.pop() for start, months in beginnings.items() if len(months) == 1}
    return clear | names


@lru_cache(maxsize=1)
def _vocabulary() -> frozenset[str]:
    words = f"{_SMALL_WORDS} {_WEEKDAYS}".split()
    return frozenset(_plain(word) for word in words) - month_names().keys()


def _plain(word: str) -> str:
    """WORD folded, without accents; a Turkish dotless i has its dot."""
    bare = unicodedata.normalize("NFKD", folded(word)).replace("ı", "i")
    return "".join(c for c in bare if not unicodedata.combining(c))


def _digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def _era(match: re.Match[str]) -> str:
    era, year = match.groups()
    return f"{_ERAS[era] + (1 if year == '元' else int(year))}年"


def _year(digits: str) -> int:
    year = int(digits)
    return year if len(digits) > 2 else year + (1900 if year > 68 else 2000)


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
