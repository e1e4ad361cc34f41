"""Secrets: known forms are found, prose and documentation are not, nothing is quadratic."""

import growth
import pytest
from lockpicks import PLANTED

from sem.forge.sources import secret_scan

INNOCENT = [
    "Store the password in a variable and never print it.",
    "password: your-password-here",
    'let secret_number = rand::thread_rng().gen_range(1..=100); // "secret"',
    "See https://example.com:8080/path@x and mailto:a@b.example.",
    "token = os.environ['API_TOKEN']",
    "api_key: ${API_KEY}",
    "The function returns a Box<dyn Error>, `access_token: String` is a field.",
    "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "Use sk-learn, sk-image and sk-video.",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqh\n-----END PUBLIC KEY-----",
    "ghp_ is how such tokens begin; AKIA begins the others.",
    "postgres://user:password@localhost/db",
]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_secret_is_found_and_masked(name):
    secret = PLANTED[name]
    text = f"Before it.\n{secret}\nAfter it."
    found = secret_scan.find_secrets(text)
    shown = secret_scan.hide_secret_spans(text, found)

    assert len(found) == 1
    assert secret_scan.MASK in shown
    assert shown.startswith("Before it.")
    half = len(secret) // 2
    assert secret[half : half + 6] not in shown
    assert secret_scan.find_secrets(shown) == []


@pytest.mark.parametrize("text", INNOCENT)
def test_documentation_and_prose_are_left_alone(text):
    assert secret_scan.find_secrets(text) == []


def test_values_of_this_machines_own_variables_are_found(monkeypatch):
    monkeypatch.setenv("SHOP_API_TOKEN", "plain words only")

    assert [f.kind for f in secret_scan.find_secrets("He wrote plain words only.")] == [
        "a variable's value"
    ]


def test_a_mask_is_placed_in_a_part_of_the_text():
    text = "a" * 50 + " " + PLANTED["github"] + " end"
    found = secret_scan.find_secrets(text)

    assert secret_scan.hide_secret_spans(text[55:], found, 55) == "[SECRET] end"
    assert secret_scan.hide_secret_spans(text[:50], found) == "a" * 50
    assert secret_scan.secrets_within(found, 0, 50) == []


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ-",
        "eyJaaaaaaaa.",
        "sk-",
        "password=",
        "-----BEGIN PRIVATE KEY-----\n",
        "://a:",
        "bearer ",
        "AKIA",
        "SG.",
        "password ",
        "AGE-SECRET-KEY-1",
    ],
)
def test_no_text_takes_more_than_linear_time(piece):
    def work(count: int) -> None:
        secret_scan.find_secrets(piece * (count // len(piece)))

    # Linear is 8, quadratic 64.
    assert growth.least_growth(work, 100_000, 800_000, 20) < 20
