"""Addresses, languages and references of stored rows, whatever shape they are in."""

import pytest

from sem.dataset import rows


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("https://www.a.co.uk:80/x?y#z", "a.co.uk"),
        ("http://user:pw@shop.a.com/", "a.com"),
        ("www.zalando.de", "zalando.de"),
        ("HTTPS://A.COM.", "a.com"),
        ("https://müller.de/x", "xn--mller-kva.de"),
        ("https://x.github.io/p", "x.github.io"),
        ("http://10.0.0.1:8080/", "10.0.0.1"),
        ("http://intranet/x", "intranet"),
        ("http:/x", ""),
        ("not a url", ""),
        ("http://[::1", ""),
        ("http://1.2.3/", ""),
        ("http://co.uk/", ""),
        ('a.com">t<', ""),
        ("", ""),
        ("javascript:alert(1)", ""),
    ],
)
def test_the_registered_domain_of_an_address(address, domain):
    assert rows.registered_domain(address) == domain


@pytest.mark.parametrize(
    ("stored", "page", "found"),
    [("de-DE", "", "de"), (None, "pt_BR", "pt"), ("EN", "", "en"), (None, "", "und"),
     (7, "x", "und"), ("english", "fr", "fr")],
)  # fmt: skip
def test_the_language_is_two_or_three_letters(stored, page, found):
    assert rows.language({"language": stored}, page) == found


def test_texts_of_a_reference_are_spelled_as_in_cleaned_pages():
    assert rows.tidy({"a": ["Cafe\u0301 ", {"b": "x\u200by"}], "c": 1}) == {
        "a": ["Café", {"b": "xy"}],
        "c": 1,
    }
