"""Raised, lowered and small text is the decimals, footnote or power of a number, not digits."""

import re

import pytest

from sem.dataset.clean import grounding
from sem.dataset.html import markup

# 173<sup>34</sup> Lei was read as 17334 Lei, and 12.99<sup>1</sup> € as 12.991 €.
SHOWN = {
    "173<sup>34</sup> Lei": "173.34 Lei",
    "12<small>99</small> zł": "12.99 zł",
    "12<sub>99</sub> Kč": "12.99 Kč",
    "12\n <sup>\n 99\n </sup>\n zł": "12.99 zł",
    "$12<sup>99</sup>": "$12.99",
    "<sup>$</sup>12<sup>99</sup>": "$12.99",
    "12€<sup>99</sup>": "12.99€",
    "12<sup>€99</sup>": "12.99 €",
    "R$ 12<sup>90</sup>": "R$ 12.90",
    "Fr. 12<sup>50</sup>": "Fr. 12.50",
    "12<sup>99</sup>": "12.99",
    "12⁹⁹ €": "12.99 €",
    "12<sup>99</sup> €/100 g": "12.99 €/100 g",
    "1.299<sup>90</sup> €": "1.299,90 €",
    "1,299<sup>99</sup> USD": "1,299.99 USD",
    "1 299<sup>90</sup> kr": "1 299.90 kr",
    "1'299<sup>90</sup> CHF": "1'299.90 CHF",
    "Rs. 1,23,456<sup>00</sup>/-": "Rs. 1,23,456.00/-",
    "12,<sup>99</sup> €": "12,99 €",
    "12 <sup>,99</sup> €": "12,99 €",
    "12<sup>500</sup> DT": "12.500 DT",
    "1,45<sup>9</sup> €/l": "1,459 €/l",
    "<span>12</span><span class=cents>99</span> €": "12.99 €",
    '<b>1.980</b><small class="old">00</small> €': "1.980,00 €",
    '<span>USD</span> <span>12</span><span class="price__fraction">99</span>': "USD 12.99",
    '5<span style="vertical-align:super">99</span> €': "5.99 €",
    "12.99<sup>1</sup> €": "12.99 [1] €",
    "12.99 €<sup>1</sup>": "12.99 € [1]",
    "12<sup>99</sup><sup>1</sup> €": "12.99 [1] €",
    "12<sup><a href='#n'>1</a></sup> people": "12 [1] people",
    "Save 30%<sup>1</sup>": "Save 30% [1]",
    "UVP<sup>2</sup> 19,99 €": "UVP [2] 19,99 €",
    "Sold in 2019<sup>3</sup> and later": "Sold in 2019 [3] and later",
    "The temple was built in 1821<sup>12</sup>": "The temple was built in 1821 [12]",
    "<sup>1</sup>12.99": "1 12.99",
    "10<sup>6</sup>": "10^6",
    "10<sup>-6</sup> m": "10^-6 m",
    "6 &times; 10<sup>23</sup>": "6 × 10^23",
    "5<sup>2</sup>": "5^2",
    "100 m<sup>2</sup>": "100 m²",
    "H<sub>2</sub>O, C<sub>6</sub>H<sub>12</sub>O<sub>6</sub>": "H2O, C6H12O6",
    "1<sup>1</sup>/<sub>2</sub> cups": "1 1/2 cups",
    "<sup>1</sup>/<sub>2</sub> cup": "1/2 cup",
    "1<sup>1</sup>&frasl;<sub>2</sub>": "1 1⁄2",
    "1<sup>1/2</sup> tsp": "1 1/2 tsp",
    "1<sup>st</sup> and 2<small>nd</small> floor": "1st and 2nd floor",
    "8<sup>00</sup> - 16<sup>30</sup>": "8:00 - 16:30",
    "Mo–Fr 7<sup>00</sup>–19<sup>00</sup>": "Mo–Fr 7:00–19:00",
    "19<sup>30</sup> Uhr": "19:30 Uhr",
    "180<sup>0</sup>C": "180°C",
    "180<sup>o</sup>F": "180°F",
    "Acme<sup>TM</sup> pen": "Acme™ pen",
    "12<small>50%</small>": "12 50%",
    "12<small>500</small>": "12 500",
    "<big>12</big>99 zł": "12 99 zł",
    "12<s>15</s>": "12 15",
    "49<sup>,-</sup>": "49,-",
    "<b>O</b>nce": "Once",
    "12<b>99</b>": "1299",
}


@pytest.mark.parametrize("source", SHOWN)
def test_raised_text_is_written_as_what_it_is(source):
    assert markup.simplify_page(f"<p>{source}</p>").text == SHOWN[source]


@pytest.mark.parametrize(
    "page",
    [
        "<div class=price><div>12</div><div class=cents>99</div></div>",
        "<div class=price>12<sup>99</sup></div>",
        "<div class=price><span>12</span>\n<span class=decimals>99</span></div>",
    ],
)
def test_cents_in_a_block_of_their_own_belong_to_the_price(page):
    assert markup.simplify_page(page).text == "price: 12.99"


@pytest.mark.parametrize("tag", ["sup", "sub", "small", "big", "s"])
@pytest.mark.parametrize("number", ["7", "19", "2019", "1299", "12.5", "1.299", "10,99"])
@pytest.mark.parametrize("raised", ["1", "09", "50", "345", "1.5", "2 of 3", "99 each"])
def test_no_spelling_adds_digits_to_a_number(tag, number, raised):
    element = f"<{tag}>{raised}</{tag}>"
    for source, first, second in (
        (f"{number}{element}", number, raised),
        (f"{element}{number}", raised, number),
    ):
        text = markup.simplify_page(f"<p>{source}</p>").text

        last, following = re.split(r"\D", first)[-1], re.split(r"\D", second)[0]
        assert not last or last + following not in text


def test_the_page_holds_the_price_that_its_elements_spell():
    # The reference 173.34 counted as invented, and 17334 as grounded.
    for source in ("173<sup>34</sup> Lei", '<i>173</i><i class="cents">34</i>'):
        page = grounding.groundable_text(f"<p>{source}</p>")

        assert grounding.is_grounded(173.34, page)


def test_small_digits_do_not_make_another_number():
    # NFKC reads 12.99¹ as 12.991 and 1½ as 11⁄2.
    text = grounding.SearchableText("12.99¹ € for 1½ pieces")

    assert grounding.is_grounded(12.99, text)
    assert not grounding.is_grounded(12.991, text)
    assert not grounding.is_grounded(11, text)
