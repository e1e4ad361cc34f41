"""A value is found when a reader would find it, and not because digits happen to follow."""

import pytest

from sem.dataset.clean import grounding
from sem.dataset.clean.grounding import SearchableText

FOUND = [
    ("Blue Mug", "the BLUE  mug"),
    ("Café", "Cafe\u0301 Noir"),
    ("Tom & Jerry", "Tom&Jerry"),
    ("10 % off", "10% off"),
    (12.99, "only 12,99 €"),
    (1234.5, "1.234,50 EUR"),
    (1234, "1,234 views"),
    (1234567, "1'234'567"),
    (4, "rated 4 of 5"),
    (4.0, "rated 4.0"),
    (75, "1 h 15 min"),
    (120, "2 hours"),
    ("S", "size S, M"),
    ("2026-03-05", "5 March 2026"),
    ("2026-03-05", "March 5th, 2026"),
    ("2026-03-05", "05.03.2026"),
    ("2026-03-05T10:00:00Z", "2026-03-05"),
    ("+49 30 1234-567", "+49 (30) 1234567"),
    ("-", "a - b"),
    (
        "First. Then the second sentence is here! And more of it, too?",
        "Step: First.\nnote Then the second sentence is here\n - And more of it, too",
    ),
]
ABSENT = [
    ("Blue Mug", "red mug, blue cup"),
    (12.99, "12.90 and 99"),
    (5, "15 or 50 or 2.5"),
    ("S", "Sizes"),
    ("ab", "cab"),
    ("2026-03-05", "6 March 2025"),
    ("2026-03-05", "room 5, built 1999"),
    (75, "1 h 20 min"),
]


@pytest.mark.parametrize(("value", "text"), FOUND)
def test_a_value_that_is_there_is_found(value, text):
    assert grounding.is_grounded(value, SearchableText(text))


@pytest.mark.parametrize(("value", "text"), ABSENT)
def test_a_value_that_is_not_there_is_not_found(value, text):
    assert not grounding.is_grounded(value, SearchableText(text))


def test_code_is_no_evidence_but_linked_data_and_attributes_are():
    page = (
        "<script src=app.90.js>var x = 91</script><style>.a{width:92px}</style><!-- 93 -->"
        "<script type='application/ld+json'>{\"price\": 94}</script><p data-x=95>96"
    )
    text = grounding.groundable_text(page)

    assert [n for n in range(90, 97) if grounding.is_grounded(n, text)] == [94, 95, 96]


def test_words_cut_by_tags_are_found_in_a_page():
    assert grounding.is_grounded("12.99", grounding.groundable_text("<b>12</b><sup>.99</sup>"))


def test_only_what_can_be_looked_for_is_a_leaf():
    reference = {"a": None, "b": True, "c": "", "d": ["x", {"e": 1}], "f": 0}

    assert list(grounding.scalar_leaves(reference)) == [("d", "x"), ("d", 1), ("f", 0)]


@pytest.mark.parametrize("opened", ["<!--", "<script>", "<svg>", "<style>"])
def test_unclosed_code_takes_linear_time(opened):
    assert grounding.groundable_text("<p>Mug" + opened * 200_000).flat.split()[0] == "p"


@pytest.mark.parametrize(
    ("value", "text", "stands"),
    [
        ("Blue Mug", "a Blue Mug here", "verbatim"),
        ("Blue Mug", "a blue\xa0mug here", "normalised"),
        ("Blue Mug", "a red mug here", "absent"),
        (4.5, "costs 4.5 today", "verbatim"),
        (4.5, "costs 4.50 today", "normalised"),
        (4.5, "costs 14.5 today", "absent"),
        (45, "costs 45.", "verbatim"),
        ("2026-01-02", "on 2 January 2026", "normalised"),
    ],
)
def test_a_value_stands_as_written_after_normalising_or_not_at_all(value, text, stands):
    assert grounding.classify_grounding(value, grounding.SearchableText(text)) == stands
