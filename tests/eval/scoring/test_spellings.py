"""Dates and money as the languages of Babel write them, and as pages do."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from babel.dates import format_date
from babel.numbers import format_currency
from toy import SPEC

from sem.core import files, locales, settings
from sem.core.example import Example
from sem.core.slotspec import SlotSpec
from sem.core.taskspec import TaskSpec
from sem.eval.answers.answers import Answer
from sem.eval.scoring import dates, scoring, values

LOCALES = (
    *("en", "en_GB", "de", "de_AT", "fr", "es", "it", "nl", "pt", "pt_BR", "pl", "sv", "da", "nb"),
    *("fi", "cs", "sk", "sl", "hr", "sr", "sr_Latn", "bg", "ru", "uk", "ro", "hu", "el", "tr"),
    *("et", "lv", "lt", "ca", "eu", "gl", "id", "ms", "vi", "th", "he", "hi", "ar", "fa", "ja"),
    *("ko", "zh"),
)
DAYS = [date(2024, month, day) for month, day in zip(range(1, 13), range(5, 29, 2), strict=True)]
MONEY = SlotSpec("numeric_tol", unit="currency")


def written(widths: tuple[str, ...]) -> Iterator[tuple[str, str, date]]:
    for name in LOCALES:
        for width in widths:
            for day in DAYS:
                yield name, format_date(day, width, locale=name), day


def test_dates_with_names_are_read_in_every_language_and_none_is_read_wrong():
    # 57 % were read, and Croatian "17. listopada" (October) as November.
    wrong, read = [], 0
    for name, text, day in written(("full", "long", "medium")):
        found = dates.as_date(text)
        read += found == day
        wrong += [(name, text, found)] if found not in (None, day) else []

    assert wrong == []
    assert read / (len(LOCALES) * len(DAYS) * 3) > 0.97


def test_the_language_of_the_row_decides_what_is_left():
    wrong, read = [], 0
    for name, text, day in written(("full", "long", "medium", "short")):
        found = dates.as_date(text, language=name.partition("_")[0])
        read += found == day
        wrong += [(name, text, found)] if found not in (None, day) else []

    assert wrong == []
    assert read / (len(LOCALES) * len(DAYS) * 4) > 0.98


@pytest.mark.parametrize(
    ("text", "language", "day"),
    [
        # Written as Croatian does.
        ("17. listopada 2024.", None, date(2024, 10, 17)),
        ("17 listopada 2024", None, date(2024, 11, 17)),  # as Polish does
        ("17. listopadu 2024", None, date(2024, 11, 17)),  # a Czech case
        ("17 listopad 2024", "hr", date(2024, 10, 17)),
        ("17 listopad 2024", "pl", date(2024, 11, 17)),
        ("14. srp 2024.", None, date(2024, 7, 14)),
        ("14 srp 2024", "cs", date(2024, 8, 14)),
        ("12 березня 2024 р.", None, date(2024, 3, 12)),
        ("5. Jänner 2024", None, date(2024, 1, 5)),
        ("2024(e)ko urtarrilaren 5(a)", None, date(2024, 1, 5)),
        ("יום שלישי, 12 במרץ 2024", None, date(2024, 3, 12)),
        ("Thứ Ba, 12 tháng 3, 2024", None, date(2024, 3, 12)),
        ("2024年3月12日火曜日", None, date(2024, 3, 12)),
        ("03/04/2024", None, None),
        ("03/04/2024", "fr", date(2024, 4, 3)),
        # Month first in the United States alone.
        ("03/04/2024", "en", None),
        ("24. 3. 12.", "ko", date(2024, 3, 12)),
        ("24. 3. 12.", None, None),
        ("03/04/2024", "xx", None),
    ],
)
def test_a_name_that_means_two_months_is_decided_by_writing_or_language(text, language, day):
    assert dates.as_date(text, language=language) == day


def test_a_slots_own_order_stands_above_the_language():
    assert dates.as_date("03/04/2024", day_first=False, language="fr") == date(2024, 3, 4)


def test_a_row_is_scored_in_its_language():
    values = SPEC | {"base_model_id": "x", "rubric": {"slots": {"title": "date_norm"}}}
    task = settings.build_settings(TaskSpec, values, "spec")
    said = Answer("1", "price", '{"title": "17 listopad 2024", "price": 1}', "stop", 1, 1, 1, 1)
    passed = {}
    for language in ("hr", "pl", "und", None):
        example = Example(
            "1", "price", "p", {"title": "2024-10-17", "price": 1}, {"language": language}
        )
        passed[language] = scoring.score_answer(example, said, task, None).slots["title"].passed

    assert passed == {"hr": True, "pl": False, "und": False, None: False}


@pytest.mark.parametrize("name", LOCALES)
def test_amounts_of_every_currency_are_read_as_the_language_writes_them(name):
    wrong = []
    for code in sorted(current_codes()):
        for amount in (0.5, 1234.5, 1234567.0):
            text = format_currency(amount, code, locale=name)
            wanted = round(amount, min(2, locales.currency_decimals(code)))
            for unit in ("currency", code):
                found = values.parse_amount(text, SlotSpec("numeric_tol", unit=unit))
                if found is None or abs(float(found.number) - wanted) > 1e-6:
                    wrong.append((text, code, unit))

    assert wrong == []


def current_codes() -> set[str]:
    from babel import Locale

    territories = Locale.parse("en").territories
    return {code for one in territories for code in locales.territory_currencies(one)}


@pytest.mark.parametrize(
    ("text", "number", "code"),
    [
        ("US $10.50", 10.5, "USD"),
        ("AU $14.50", 14.5, "AUD"),
        ("CA $17.50", 17.5, "CAD"),
        ("NZ $5", 5, "NZD"),
        ("18.50 $US", 18.5, "USD"),
        ("$19.50 USD", 19.5, "USD"),
        ("11,50 €*", 11.5, "EUR"),
        ("11,50 €¹", 11.5, "EUR"),
        ("£15.50 inc. VAT", 15.5, "GBP"),
        ("£15.50 (ex. VAT)", 15.5, "GBP"),
        ("15,50 € inkl. MwSt. zzgl. Versand", 15.5, "EUR"),
        ("15,50 € TTC", 15.5, "EUR"),
        ("16.50 €/kg", 16.5, "EUR"),
        ("16,50 € / 100 g", 16.5, "EUR"),
        ("$9 per month", 9, "USD"),
        ("1 299:-", 1299, None),
        ("SEK 1 299:-", 1299, "SEK"),
        ("1299:90 kr", 1299.9, "SEK"),
        ("CHF 1'234.–", 1234, "CHF"),
        ("1,980円(税込)", 1980, "JPY"),
        ("¥1,980(税込)", 1980, "JPY"),
        ("Rs. 1,23,456/-", 123456, "INR"),
        ("RM 45.90", 45.9, "MYR"),
        ("R 1 299,00", 1299, "ZAR"),
        ("Rp 150.000", 150000, "IDR"),
        ("IDR 150.000", 150000, "IDR"),
        ("AED 120.00", 120, "AED"),
        ("120.00 د.إ", 120, "AED"),
        ("S/ 35.90", 35.9, "PEN"),
        ("99¢", 0.99, "USD"),
        ("99p", 0.99, "GBP"),
        ("P 99.00", 99, "BWP"),
        ("5,00- €", -5, "EUR"),
        ("KWD 1.250", 1.25, "KWD"),
        ("€ 1.250", 1250, "EUR"),
        ("1.5k $", 1500, "USD"),
        ("KSh 1,500", 1500, "KES"),
        ("₸ 12 500", 12500, "KZT"),
        ("GH₵ 45.00", 45, "GHS"),
    ],
)
def test_money_is_read_as_pages_write_it(text, number, code):
    found = values.parse_amount(text, MONEY)

    assert found is not None
    assert float(found.number) == pytest.approx(number)
    assert code is None or code in found.currencies
    if code:
        assert values.parse_amount(text, SlotSpec("numeric_tol", unit=code)) is not None


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("AU $14.50", "USD"),
        ("€ 12", "USD"),
        ("12 apples", "currency"),
        ("12 incl.", "currency"),  # of what, nobody says
        ("from 12 to 15 €", "currency"),
        ("12.50 - 15.00 €", "currency"),
        ("10²", "currency"),
        ("€ 12 USD", "currency"),
        ("XY $12", "currency"),
    ],
)
def test_what_is_no_amount_or_another_currency_stays_unread(text, unit):
    assert values.parse_amount(text, SlotSpec("numeric_tol", unit=unit)) is None


def test_every_spelling_of_the_findings_is_right(shared):
    rows = files.read_rows(shared / "findings/money-spellings/money.jsonl")
    wanted: dict[str, Any] = {row["id"]: row["output_json"]["price"] for row in rows}
    said = files.read_rows(shared / "findings/money-spellings/money_answers.jsonl")

    for row in said:
        found = values.parse_amount(row["candidate"]["price"], MONEY)
        assert found is not None, row
        assert float(found.number) == wanted[row["id"]], row


def test_every_iso_code_may_be_a_unit():
    assert len(locales.iso_currency_codes()) > 250
    assert locales.is_known_unit("IDR")
    assert not locales.is_known_unit("XYZQ")
    assert SlotSpec("numeric_tol", unit="MAD").unit == "MAD"
