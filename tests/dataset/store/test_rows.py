"""Addresses, languages and references of stored rows, whatever shape they are in."""

import pytest
from toy import SPEC

from sem.core import settings
from sem.core.taskspec import TaskSpec
from sem.dataset.store import rows


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
    [
        ("de-DE", "", "de"),
        (None, "pt_BR", "pt"),
        ("EN", "", "en"),
        (None, "", "und"),
        (7, "x", "und"),
        ("english", "fr", "fr"),
    ],
)
def test_the_language_is_two_or_three_letters(stored, page, found):
    assert rows.page_language({"language": stored}, page) == found


def test_texts_of_a_reference_are_spelled_as_in_cleaned_pages():
    assert rows.clean_strings({"a": ["Cafe\u0301 ", {"b": "x\u200by"}], "c": 1}) == {
        "a": ["Café", {"b": "xy"}],
        "c": 1,
    }


OBJECT = {"type": "object", "properties": {"price": {"type": "number"}}}
TEXT = {"type": "string"}
REPLIES = [
    # A store keeps the strong model's reply as it came; only a bare fence was read around.
    (OBJECT, '<think>12 or 13? {"price": 13}</think>\n{"price": 12.5}', {"price": 12.5}),
    (OBJECT, '<think>{"price": 13}</think>```json\n{"price": 12.5}\n```', {"price": 12.5}),
    (OBJECT, 'so it is 12.5</reasoning> {"price": 12.5}', {"price": 12.5}),
    (OBJECT, 'Here it is:\n```json\n{"price": 12.5}\n```\nAnything else?', {"price": 12.5}),
    (OBJECT, '\ufeff```\n{"price": 12.5}\n```', {"price": 12.5}),
    (OBJECT, '"{\\"price\\": 12.5}"', {"price": 12.5}),
    (OBJECT, '<think>{"price": 13}', "reference_not_json"),
    (OBJECT, '{"price": 12.5} or {"price": 13}', "reference_not_json"),
    # Where a text is wanted, what surrounds a value is part of the answer.
    (TEXT, 'Write {"price": 12.5} into it.', 'Write {"price": 12.5} into it.'),
    (TEXT, '```json\n"hello"\n```', "hello"),
]


@pytest.mark.parametrize(("io_schema", "stored", "value"), REPLIES)
def test_a_stored_reply_is_read_as_every_reply_is(io_schema, stored, value):
    spec = settings.build_settings(
        TaskSpec, SPEC | {"io_schema": io_schema, "base_model_id": "x"}, "price.json"
    )
    try:
        found = rows._parsed(stored, spec)
    except rows.Reject as refused:
        found = refused.reason

    assert found == value
