"""The six levels, case by case, and what no level may be talked into."""

import math
from datetime import date, timedelta
from typing import Any

import pytest
from dateutil import parser
from hypothesis import given
from hypothesis import strategies as st
from slot_cases import CASES, Case

from sem.core import locales, slotspec
from sem.core.slotspec import LEVELS, SlotSpec
from sem.eval.scoring import dates, slots, values

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def named(case: Case) -> str:
    spec = case[0] if isinstance(case[0], str) else case[0]["level"]
    return f"{spec}-{str(case[1])[:20]}-{str(case[2])[:20]}-{case[4]}" if _short(case) else spec


def _short(case: Case) -> bool:
    return not any(isinstance(v, int) and abs(v) > 1e15 for v in case[1:3])


@pytest.mark.parametrize(("spec", "said", "wanted", "score", "why"), CASES, ids=map(named, CASES))
def test_a_case(spec: Any, said: Any, wanted: Any, score: float | None, why: str) -> None:
    found = slots.score_slot(said, wanted, slotspec.read_slotspec(spec, "case"))
    assert found == (score if score is None else pytest.approx(score, abs=1e-9)), why


def test_the_table_is_what_the_plan_asks_for() -> None:
    kinds = {spec if isinstance(spec, str) else spec["level"] for spec, *_ in CASES}
    assert len(CASES) >= 300
    assert kinds == set(LEVELS)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("said", "wanted", "score"), [(None, None, 1), ("", None, 1), (None, "x", 0), ("x", None, 0)]
)
def test_null_is_right_only_where_null_is_wanted(level, said, wanted, score) -> None:
    assert slots.score_slot(said, wanted, SlotSpec(level)) == score


@given(st.sampled_from(LEVELS), JSON, JSON)
def test_every_pair_has_a_score_from_0_to_1_or_none(level: str, said: Any, wanted: Any) -> None:
    found = slots.score_slot(said, wanted, SlotSpec(level, unit="currency"))
    assert found is None or 0.0 <= found <= 1.0


@given(st.sampled_from(LEVELS), JSON)
def test_a_json_value_is_right_beside_itself(level: str, value: Any) -> None:
    if values.is_json(value):
        assert slots.score_slot(value, value, SlotSpec(level)) == 1.0


def test_a_similarity_scorer_decides_free_text() -> None:
    spec = SlotSpec("llm_similarity")
    assert slots.score_slot("one", "other", spec, lambda a, b: 0.6) == 0.6
    assert slots.score_slot("one", "other", spec, lambda a, b: 1.7) == 1.0
    assert slots.score_slot("one", "other", spec, lambda a, b: -0.2) == 0.0
    assert slots.score_slot("one", "other", spec, lambda a, b: math.nan) is None
    assert slots.score_slot(["one"], "other", spec, lambda a, b: float(a == '["one"]')) == 1.0


@given(st.dates(date(1000, 1, 1), date(9999, 12, 31)))
def test_dates_written_with_a_name_agree_with_dateutil(day: date) -> None:
    for form in ("%d %B %Y", "%B %d, %Y", "%a, %d %b %Y 10:00:00", "%Y-%m-%d"):
        written = day.strftime(form) if day.year > 999 else ""
        assert dates.as_date(written) == parser.parse(written).date() == day


def test_every_month_of_every_language_is_read() -> None:
    for number, forms in ((n, set()) for n in range(1, 13)):
        forms |= {name for name, month in dates.month_names().items() if month == number}
        assert len(forms) > 30
        for name in forms:
            assert dates.as_date(f"5 {name} 2024") == date(2024, number, 5), name


def test_numeric_dates_are_read_alike_wherever_they_leave_no_doubt() -> None:
    for day in (date(2024, 1, 1) + timedelta(n) for n in range(366)):
        dotted, slashed = day.strftime("%d.%m.%Y"), day.strftime("%m/%d/%Y")
        is_clear = day.day > 12 or day.day == day.month
        assert dates.as_date(dotted) == day
        assert dates.as_date(slashed) == (day if is_clear else None)
        assert dates.as_date(slashed, day_first=False) == day


def test_every_unit_reads_as_one_of_itself() -> None:
    for name in locales.known_units():
        spec = SlotSpec("numeric_tol", unit=name)
        written = "2 EUR" if name == "currency" else f"2 {name}"
        assert slots.score_slot(written, 2, spec) == 1.0, name
        assert slots.score_slot("2 parsecs", 2, spec) == 0.0


@pytest.mark.parametrize("sign", sorted(locales.currency_codes()))
def test_every_currency_sign_stands_on_either_side(sign: str) -> None:
    spec = SlotSpec("numeric_tol", unit="currency")
    assert slots.score_slot(f"{sign} 12.50", 12.5, spec) == 1.0
    assert slots.score_slot(f"12,50 {sign}", 12.5, spec) == 1.0
