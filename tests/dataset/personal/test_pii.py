"""Personal data: what is found, what is not, and what the policy makes of it."""

import json
import random
import re

import growth
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sem.core.errors import SemError
from sem.dataset.config import Pii
from sem.dataset.personal import pii, pii_phones
from sem.dataset.store import store

FOUND = [
    ("email", "mail Ann.B+x@mail.example.co.uk.", "Ann.B+x@mail.example.co.uk"),
    ("email", "(mailto:ann@x.de?subject=hi)", "ann@x.de"),
    ("email", "href=https://x.de/?to=ann%40x.de&a=1", "ann%40x.de"),
    ("email", "schreiben Sie an info (at) firma.de!", "info (at) firma.de"),
    ("phone", "Tel.: 030 / 1234567", "030 / 1234567"),
    ("phone", "call +49 (0)30 901820 now", "+49 (0)30 901820"),
    ("phone", "(415) 555-2671 x123", "(415) 555-2671 x123"),
    ("phone", "Fax 1.800.669.6607 7am-7pm", "1.800.669.6607"),
    ("phone", "(tel:+493012345678)", "+493012345678"),
    ("phone", "order at 1-800-FLOWERS", "1-800-FLOWERS"),
    ("card", "paid 4012 8888 8888 1881 by", "4012 8888 8888 1881"),
    ("card", "card no. 30569309025904", "30569309025904"),
    ("iban", "IBAN: DE89 3704 0044 0532 0130 00 BIC", "DE89 3704 0044 0532 0130 00"),
    ("iban", "to GB82WEST12345698765432.", "GB82WEST12345698765432"),
    ("ip", "from 192.168.10.20:443", "192.168.10.20"),
    ("ip", "at [2001:db8::8a2e:370:7334]/x", "2001:db8::8a2e:370:7334"),
    ("national_id", "SSN 460-89-9847", "460-89-9847"),
    ("national_id", "PESEL 44051401458", "44051401458"),
    ("national_id", "codice fiscale RCCMNL83S18D969H", "RCCMNL83S18D969H"),
    ("name", "Contact: Dr. Anna van der Berg, Berlin", "Anna van der Berg"),
]


@pytest.mark.parametrize(("kind", "text", "wanted"), FOUND, ids=[case[1] for case in FOUND])
def test_personal_data_is_found_with_its_exact_borders(kind, text, wanted):
    start = text.index(wanted)

    assert pii.find_personal_data(text, [kind], ("DE", "US")) == [
        pii.PiiSpan(kind, start, start + len(wanted), wanted)
    ]


INNOCENT = [
    "srcset=logo@2x.png and @media and a@b",
    "npm install left-pad@1.3.0",
    "isbn: 978-0-306-40615-7, isbn 0851519733",
    # a Visa or a phone by its length alone.
    "Banner Of Truth,0851519733,Spurgeon",
    "EAN 4006381333931",
    # EANs that start as a Visa does.
    "4006381333931 4012345678901",
    "12.03.2024 10:30, 2024-03-12, 05/19/2014 10:00 AM, 2019-2020",
    "€ 1.234.567,89 and Rs 22,800 and 300.000 Menschen in Tel Aviv 300.000",
    "Mobile Phones - 1021493409",
    "https://x.de/cb-Tests-Handy-24350639.html utm_content=25784520",
    "Chrome/120.0.0.0 Safari/537.36 version 1.2.3.4 v10.20.30.40",
    "Home :: Shop, std::vector, 12:34:56, aa:bb:cc:dd:ee:ff, ::1",
    "open 10.00 - 18.00, 17031 2202 Rissik St",
    "Size 10 x 20 x 30 cm, 5 000 000 sold",
    "sku: 415-555-2671",
    "DE89 3704 0044 0532 0130 01",  # one digit off
    "4012 8888 8888 1882",
    "SSN 000-12-3456, 666-12-3456",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_prices_dates_articles_and_versions_are_no_personal_data(text):
    assert pii.find_personal_data(text, pii.KINDS, ("US", "DE", "GB")) == []


def test_a_national_number_is_read_by_the_country_of_its_page():
    text = "01452 912958"

    assert pii.find_personal_data(text, ["phone"], ("US",)) == []
    assert [s.text for s in pii.find_personal_data(text, ["phone"], ("GB",))] == [text]


@pytest.mark.parametrize(
    ("language", "url", "asked", "wanted"),
    [
        ("de", "https://shop.co.uk/x", (), ("GB", "DE", "AT", "CH")),
        ("en-CA", "", ("FR",), ("FR", "CA", "US", "GB", "AU", "IN", "IE", "NZ", "ZA")),
        ("und", "https://x.io/", (), ()),
    ],
)
def test_regions_come_from_the_settings_the_host_and_the_language(language, url, asked, wanted):
    assert pii.phone_regions(language, url, asked) == wanted


TEXT = "Ann: ann@x.de, Tel. +1 (555) 010-0199 (tel:5550100199). Card 4012-8888-8888-1881"


def test_one_value_has_one_placeholder_in_text_and_reference():
    made = pii.apply_pii_policy(TEXT, {"mail": "Ann@X.de", "phones": ["5550100199"]}, Pii())

    assert made.text == "Ann: [EMAIL_1], Tel. [PHONE_1] (tel:[PHONE_1]). Card [CARD_1]"
    assert made.reference == {"mail": "[EMAIL_1]", "phones": ["[PHONE_1]"]}
    assert made.counts == {"card": {"redact": 1}, "email": {"redact": 2}, "phone": {"redact": 3}}
    assert made.reason is None


def test_a_slot_that_is_kept_keeps_its_value_everywhere():
    made = pii.apply_pii_policy(TEXT, {"phones": ["5550100199"]}, Pii(slots={"phones": "keep"}))

    assert "+1 (555) 010-0199 (tel:5550100199)" in made.text
    assert made.reference == {"phones": ["5550100199"]}
    assert made.counts["phone"] == {"keep": 3}
    assert "[EMAIL_1]" in made.text


def test_a_kind_that_rejects_names_itself_as_the_reason():
    assert pii.apply_pii_policy(TEXT, {}, Pii(card="reject")).reason == "pii_card"


def test_a_slot_that_rejects_wins_over_one_that_keeps():
    slots = {"a": "keep", "b": "reject"}

    assert (
        pii.apply_pii_policy("x", {"a": "q@x.de", "b": "q@x.de"}, Pii(slots=slots)).reason
        == "pii_email"
    )


def test_a_slot_that_is_redacted_holds_a_name_by_declaration():
    made = pii.apply_pii_policy(
        "By Jo Smith. Jo Smithson agrees.", {"author": "Jo Smith"}, Pii(slots={"author": "redact"})
    )

    assert made.text == "By [NAME_1]. Jo Smithson agrees."
    assert made.reference == {"author": "[NAME_1]"}


def test_slots_inside_objects_and_lists_are_addressed_as_slot_specs_are():
    policy = Pii(slots={"sellers[].phone": "keep", "buyer": "keep"}, email="redact")
    value = {"sellers": [{"phone": "+49 30 901820"}], "buyer": {"mail": "b@x.de"}, "m": "c@x.de"}

    made = pii.apply_pii_policy("+49 30 901820, b@x.de, c@x.de", value, policy)

    assert made.text == "+49 30 901820, b@x.de, [EMAIL_1]"


def test_an_answer_that_looks_like_a_number_of_a_person_stays():
    made = pii.apply_pii_policy("Model 1 415-555-2671", {"sku": "415-555-2671"}, Pii())

    assert made.text == "Model 1 415-555-2671"
    assert made.counts == {"phone": {"keep": 1}}


def test_a_value_that_stands_in_the_reference_alone_follows_its_kind():
    assert pii.apply_pii_policy("none", {"email": "a@x.de"}, Pii()).reference == {
        "email": "[EMAIL_1]"
    }


def test_a_number_cannot_hold_a_placeholder_so_the_row_is_refused():
    assert pii.apply_pii_policy("x", {"phone": 5550100199}, Pii()).reason == "pii_not_text"
    assert (
        pii.apply_pii_policy("x", {"phone": 5550100199}, Pii(slots={"phone": "keep"})).reason
        is None
    )


def test_placeholders_that_are_there_already_do_not_clash():
    assert pii.apply_pii_policy("[EMAIL_3] a@x.de", {}, Pii()).text == "[EMAIL_3] [EMAIL_4]"


def test_what_else_belongs_to_the_row_has_the_same_placeholders():
    made = pii.apply_pii_policy(
        "a@x.de b@x.de", {"m": "b@x.de"}, Pii(), also=[{"m": "a@x.de"}, "c@x.de"]
    )

    assert made.also == [{"m": "[EMAIL_1]"}, "[EMAIL_3]"]
    assert made.reference == {"m": "[EMAIL_2]"}


def test_the_country_of_a_page_is_told_by_its_address_or_its_language():
    text, policy = "Ruf 030 1234567", Pii()

    assert pii.apply_pii_policy(text, {}, policy, {"language": "de"}).text == "Ruf [PHONE_1]"
    assert pii.apply_pii_policy(text, {}, policy, {"url": "https://x.de/"}).text == "Ruf [PHONE_1]"
    assert pii.apply_pii_policy(text, {}, policy, {"url": None, "language": "pl"}).text == text


SCHEMA = {
    "type": "object",
    "properties": {
        "phones": {"type": "array", "items": {"type": "string"}},
        "seller": {"type": "object", "properties": {"mail": {"type": "string"}}},
    },
}


def test_a_slot_that_no_task_has_names_the_nearest():
    pii.check_pii_policy(
        Pii(slots={"phones": "keep", "seller.mail": "keep", "seller": "redact"}), [SCHEMA], "x"
    )
    pii.check_pii_policy(Pii(slots={"anything": "keep"}), [{"type": "object"}], "x")

    with pytest.raises(SemError) as caught:
        pii.check_pii_policy(Pii(slots={"phone": "keep"}), [SCHEMA], "dataset.yaml")
    assert caught.value.message == "dataset.yaml: pii.slots: no slot 'phone'"
    assert caught.value.hint == "did you mean 'phones'?"


def test_a_region_is_a_country():
    pii.check_pii_policy(Pii(regions=("DE", "US")), [SCHEMA], "x")

    with pytest.raises(SemError) as caught:
        pii.check_pii_policy(Pii(regions=("UK",)), [SCHEMA], "dataset.yaml")
    assert caught.value.message == (
        "dataset.yaml: pii.regions: 'UK' is not a country with telephone numbers"
    )


def test_where_everything_is_kept_nothing_is_looked_for():
    keep = Pii(**dict.fromkeys(pii.KINDS, "keep"))

    assert pii.apply_pii_policy(TEXT, {"a": "ann@x.de"}, keep) == pii.PiiResult(
        TEXT, {"a": "ann@x.de"}, {}
    )


def test_a_number_that_another_one_hid_is_found_once_that_is_out_of_its_way():
    # One run of digits: only the second was found, and the first stayed in the text.
    text = "Tel.: 030 / 1234567 (415) 555-2671 x123"

    assert [s.text for s in pii.find_personal_data(text, ["phone"], ("DE", "US"))] == [
        "030 / 1234567",
        "(415) 555-2671 x123",
    ]


def test_the_start_of_a_longer_number_is_no_id():
    # The look-around ended in the middle of the number, and its first nine digits were an SSN.
    text = "SSN [NATIONAL_ID_1] Tel.: 030 / 1234567 4006381333931 4012345678901"

    assert pii.find_personal_data(text, ["national_id"]) == []


PIECES = st.sampled_from(
    [*(case[1] for case in FOUND), *INNOCENT, TEXT, "[EMAIL_1]", "[PHONE_2]", "\n", " or "]
)


@settings(max_examples=60, deadline=None)
@example(["Tel.: 030 / 1234567", "(415) 555-2671 x123"], False)
@example(["SSN 460-89-9847", "Tel.: 030 / 1234567", "4006381333931 4012345678901"], False)
@example(["mail Ann.B+x@mail.example.co.uk.", "Banner Of Truth,0851519733,Spurgeon"], False)
@given(st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=6), st.booleans())
def test_twice_is_the_same_as_once_and_nothing_found_is_left(pieces, is_named):
    policy = Pii(
        name="redact" if is_named else "keep", slots={"author": "redact"}, regions=("DE", "US")
    )
    reference = {"author": "Jo Smith", "text": " ".join(pieces[:2])}
    once = pii.apply_pii_policy(" ".join(pieces), reference, policy)
    twice = pii.apply_pii_policy(once.text, once.reference, policy)

    assert (twice.text, twice.reference) == (once.text, once.reference)
    kinds = [kind for kind in pii.KINDS if getattr(policy, kind) == "redact"]
    left = pii.find_personal_data(once.text, kinds, ("DE", "US"))
    assert sum(n.get("keep", 0) for n in once.counts.values()) >= len(left)


BOMBS = {
    "digits": "1",
    "at": "@",
    "dots": "a.a.a.a",
    "mails": "a@a.",
    "groups": "1 ",
    "phones": "0171-1234567 ",
    "brackets": "(030) 1 ",
    "dates": "12.03.2024 ",
    "ips": "1.2.3.4.",
    "colons": "a:a:",
    "ibans": "DE89 3704 ",
    "cards": "4012 8888 ",
    "words": "contact: tel Mr ",
    "names": "Mr A van ",
    "ids": "123456-1234567 id ",
    "percent": "%40a",
}


@pytest.mark.parametrize("name", BOMBS)
def test_twice_the_hostile_text_takes_about_twice_the_time(name):
    def work(count: int) -> None:
        pii_phones._is_valid.cache_clear()
        pii.find_personal_data((BOMBS[name] * count)[:count], pii.KINDS, ("US", "DE"))

    # Linear is 4, quadratic 16.
    assert growth.least_growth(work, 20_000, 80_000, 9) < 9


def test_libphonenumber_is_asked_about_few_of_a_million_digits(monkeypatch):
    asked = []
    real = pii_phones._is_valid
    monkeypatch.setattr(pii_phones, "_is_valid", lambda *a: asked.append(a) or real(*a))
    rng = random.Random(3)
    prices = " ".join(f"{rng.randrange(1, 999)}.{rng.randrange(100):02}" for _ in range(150_000))

    pii.find_personal_data("7" * 1_000_000, ["phone"], ("US", "DE"))
    assert asked == []
    pii.find_personal_data(prices, ["phone"], ("US", "DE"))
    assert len(asked) < 100


REDACTED = [kind for kind in pii.KINDS if kind != "name"]


def test_naughty_strings_and_injections_pass_unharmed(shared):
    for file in ("naughty_strings", "prompt_injection"):
        lines = (shared / "data" / "hostile" / f"{file}.jsonl").read_text("utf-8").splitlines()
        for row in map(json.loads, lines):
            made = pii.apply_pii_policy(row["text"], {"a": [row["text"]]}, Pii(regions=("US",)))
            spans = pii.find_personal_data(row["text"], REDACTED, ("US",))
            assert (made.text == row["text"]) == (not spans)
            assert made.reference == {"a": [made.text]}


def test_recall_on_real_contact_pages_is_what_the_target_asks(shared):
    path = shared / "data" / "pii_neardup" / "pii_real_contact_pages.jsonl"
    wanted = found = 0
    for row in map(json.loads, path.read_text("utf-8").splitlines()):
        regions = pii.phone_regions(row["language"], row["url"])
        digits = [
            re.sub(r"\D", "", s.text)
            for s in pii.find_personal_data(row["text"], ["phone"], regions)
        ]
        for value in row["pii_values"].get("phones", []):
            if value in row["text"]:
                wanted += 1
                found += any(re.sub(r"\D", "", value) in number for number in digits)

    assert wanted > 200
    assert found / wanted >= 0.95


US = pii.phone_regions("en", "https://shop.example.com", ())
AD = f"https://ad.example/c?aid=1&{'x' * 300}&cid=4111111111111111"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # A US ZIP+4 is no telephone number, whatever stands around it.
        ("Englewood, CO 80112-5816 Phone: (303) 555-0199", ["(303) 555-0199"]),
        ("Phone: 303-555-0199, Denver CO 80112-5816 Fax", ["303-555-0199"]),
        ("CEP: 09251-000, call now", []),
        ("3000-164 Coimbra, fax", []),
        ("Networks: GSM 850 / 900 / 1800 / 1900", []),
        # `888-823-⏎2633` was masked in part.
        ("Call 888-823-\n2633 now", ["888-823-\n2633"]),
        ("Call 888-\n823-2633 now", ["888-\n823-2633"]),
        ("1-\n2-\n3-\n4-\n5-\n6-\n7-\n8", []),
        # `Build` names a version, `cards` a card, but not of such a number.
        ("Stearns Design-Build, Inc. (979) 696-0524", ["(979) 696-0524"]),
        ("membership cards, mail x@y.org or (718) 220-5111", ["(718) 220-5111"]),
        ("Licensed Assistant | 905 336-8600 ext. 220", ["905 336-8600 ext. 220"]),
        ("at 1-800-584-7263, ext. 7638", ["1-800-584-7263, ext. 7638"]),
        ("Service 1.888.LUTRON1 (588-7661)", ["1.888.LUTRON1 (588-7661)"]),
        ("(0xx11) 2509-7626", ["(0xx11) 2509-7626"]),
        # Ids in the links of advertisers are no cards.
        ("https://ad.example/c?aid=12&cid=4111111111111111", []),
        (f"see {AD} here", []),
        ("redirect%3Fid%3D4111111111111111", []),
        ("?cid=4111111111111111", []),
        ("paid with 4111111111111111", ["4111111111111111"]),
    ],
)
def test_numbers_that_are_personal_are_told_from_others(text, wanted):
    assert [span.text for span in pii.find_personal_data(text, ("phone", "card"), US)] == wanted


def test_a_number_that_is_broken_over_lines_is_masked_whole():
    text, policy = "Call 888-823-\n2633 now", Pii(phone="redact")

    made = pii.apply_pii_policy(text, {}, policy, {"language": "en"})

    assert made.text == "Call [PHONE_1] now"


def test_no_id_of_a_real_page_is_taken_for_a_card(shared):
    # 16 on 179 product pages, all of them ids in the links of advertisers.
    with store.open_store(shared / "data" / "html" / "examples.duckdb") as opened:
        pages = [row.input_text for row in opened.rows()][::4]

    assert [span for page in pages for span in pii.find_personal_data(page, ["card"], US)] == []


def test_an_answer_inside_a_longer_number_is_not_redacted():
    # The postcode that the model shall answer went with its extension, taken for a fax.
    text = "Fax: 80112-5816"

    made = pii.apply_pii_policy(text, {"zip": "80112"}, Pii(phone="redact"))

    assert made.text == text
