"""The client of chat models, over real HTTP: faults, caps, pace, cache, keys."""

import base64
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from chatserver import DRIPS, ChatServer

from sem.core.errors import SemError
from sem.lm.api import client as client_module
from sem.lm.api import redact
from sem.lm.api.calls import FAULTS, ChatRequest
from sem.lm.api.client import Client
from sem.lm.api.ledger import Ledger, RequestBid, SpendingCap
from sem.lm.api.provider import Calls, Price, Provider
from sem.lm.api.rate_limits import Limits

AT = datetime(2026, 11, 21, tzinfo=UTC)
KEY = "sk-canary-0123456789"
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["pass", "nonce"],
    "properties": {
        "pass": {"type": "boolean"},
        "nonce": {"type": "string"},
        "score": {"type": "number"},
    },
}
GOOD = '{"pass": true, "nonce": "n"}'
SAID = {
    "good": GOOD,
    "fenced": f"```json\n{GOOD}\n```",
    "invalid_json": '{"pass": tr',
    "wrong_schema": '{"pass": "false", "nonce": "n"}',
    "not_finite": '{"pass": true, "nonce": "n", "score": NaN}',
    "wrong_echo": '{"pass": true, "nonce": "m"}',
}
PAID = Price(1, 1)
Make = Callable[..., Client]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setenv("STUB_KEY", KEY)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(lambda body, number: GOOD) as made:
        made.hang_s = 0.6
        yield made


@pytest.fixture
def make(server: ChatServer, tmp_path: Path) -> Make:
    def made(window_s: float = 60.0, price: Price | None = PAID, **changes: object) -> Client:
        names = ("requests_per_minute", "tokens_per_minute")
        limits = {name: changes.pop(name) for name in names if name in changes}
        one = Provider("openai/stub", "", server.url, "STUB_KEY", price, **limits)
        settings = Calls(**{"models": (one,), "timeout_s": 5.0, **changes})
        return Client(settings, tmp_path / "lm", "test", AT, window_s)

    return made


def ask(text: str = "x", **changes: object) -> ChatRequest:
    return ChatRequest((("user", text),), SCHEMA, {"nonce": "n"}, max_tokens=36, **changes)


@pytest.mark.parametrize(
    ("script", "fault", "requests"),
    [
        ("401", "auth", 1),
        ("403", "forbidden", 1),
        ("429", "rate_limited", 4),
        ("500", "server_error", 4),
        ("503", "unavailable", 4),
        ("hang", "timeout", 4),
        ("drip", "timeout", 4),
        ("reset", "connection", 4),
        ("half", "cut_off", 4),
        ("html", "not_json", 1),
        ("empty", "empty", 3),
        ("length", "length", 1),
        ("huge", "too_large", 1),
        ("many", "too_large", 1),
        ("bomb", "too_large", 1),
        ("redirect", "bad_request", 1),
        ("invalid_json", "invalid_json", 3),
        ("wrong_schema", "wrong_schema", 3),
        ("not_finite", "not_finite", 3),
        ("wrong_echo", "wrong_echo", 3),
    ],
)
def test_every_fault_of_a_provider_has_a_name_and_is_never_cached(
    server: ChatServer, make: Make, tmp_path: Path, script: str, fault: str, requests: int
) -> None:
    server.script = lambda body, number: SAID.get(script, script)
    client = make(timeout_s=0.3 if fault == "timeout" else 5.0)

    outcome = client.ask(ask())

    assert (outcome.fault, outcome.requests) == (fault, requests)
    assert fault in FAULTS
    assert len(server.seen) == requests
    server.script = lambda body, number: GOOD
    assert not client.ask(ask()).cached
    assert KEY not in repr(outcome)
    assert KEY.encode() not in b"".join(p.read_bytes() for p in (tmp_path / "lm").iterdir())


@pytest.mark.parametrize("part", DRIPS)
def test_one_deadline_holds_from_the_connection_to_the_last_byte(
    server: ChatServer, make: Make, part: str
) -> None:
    # A byte of a header every 0.4 s ran past 30 s at `timeout_s=2`: only bodies had a deadline.
    server.script = lambda body, number: f"drip {part}"
    client = make(timeout_s=0.3, tries=1)
    # What a first call loads is not the server's.
    client.ask(ask())
    began = time.monotonic()

    outcome = client.ask(ask("y"))

    # It drips for 8 s and more; a machine that does other things as well is allowed its time.
    assert time.monotonic() - began < 5
    assert outcome.fault == "timeout"


@pytest.mark.parametrize("script", ["good", "fenced"])
def test_an_equal_request_is_paid_once(server: ChatServer, make: Make, script: str) -> None:
    server.script = lambda body, number: SAID[script]
    first, again = make().ask(ask()), make().ask(ask())

    assert first.value == {"pass": True, "nonce": "n"}
    assert (first.cached, again.cached, again.value) == (False, True, first.value)
    assert (again.usd, again.requests, len(server.seen)) == (0, 0, 1)


@pytest.mark.parametrize("change", [{"epoch": "2"}, {"prompt_version": "2"}, {"temperature": 0.5}])
def test_whatever_decides_the_reply_is_in_the_cache_key(
    server: ChatServer, make: Make, change: dict[str, object]
) -> None:
    make().ask(ask())
    assert not make().ask(ask(**change)).cached


def test_a_cached_reply_is_checked_again_and_a_damaged_one_is_paid_again(make: Make) -> None:
    client = make()
    client.ask(ask())
    with client.ledger._writing() as db:
        db.execute("UPDATE replies SET body = replace(body, 'true', 'false')")
    assert not client.ask(ask()).cached
    assert client.ledger.damage() == []


def test_a_call_that_failed_for_a_while_succeeds(server: ChatServer, make: Make) -> None:
    script = ["500", "429", "not json", GOOD]
    server.script = lambda body, number: script[number - 1]
    outcome = make().ask(ask())
    assert (outcome.fault, outcome.requests) == (None, 4)
    # After an unusable reply it is told so.
    assert len(server.seen[3]["messages"]) == 2


def test_retry_after_is_honoured_and_a_long_one_ends_the_call(
    server: ChatServer, make: Make
) -> None:
    server.script = lambda body, number: "429" if number == 1 else GOOD
    server.retry_after = "0.4"
    assert make().ask(ask()).is_usable
    assert server.at[1] - server.at[0] >= 0.4
    server.script, server.retry_after = lambda body, number: "429", "3000"
    assert make().ask(ask("other")).requests == 1


def test_the_next_model_is_asked_where_one_fails(server: ChatServer, tmp_path: Path) -> None:
    server.script = lambda body, number: "401" if body["model"] == "first" else GOOD
    one = [Provider(f"openai/{n}", "", server.url, None, Price(0, 0)) for n in ("first", "next")]
    outcome = Client(Calls(tuple(one)), tmp_path, "t", AT).ask(ask())
    assert (outcome.model, outcome.is_usable, outcome.requests) == ("openai/next", True, 2)


def test_ten_failures_in_a_row_open_the_circuit(server: ChatServer, make: Make) -> None:
    server.script = lambda body, number: "500"
    client = make()
    faults = [client.ask(ask(str(number))).fault for number in range(5)]
    assert faults == ["server_error", "server_error", "circuit", "circuit", "circuit"]
    assert len(server.seen) == 10


def test_a_cap_is_never_passed_and_no_restart_forgets_it(server: ChatServer, make: Make) -> None:
    # a request reserves exactly one dollar.
    price = Price(0, 1_000_000 / 36)
    client = make(price=price, max_usd=25, workers=8)
    found = [outcome for _, outcome in client.ask_all(ask(str(n)) for n in range(200))]
    sent = len(server.seen)
    # A reply of 10 tokens settles at 10/36 dollar: what is left is spent on further calls.
    assert client.ledger.spent(client.account).usd <= 25
    assert sum(o.fault == "budget" for o in found) == 200 - sent
    assert client.ledger.spent(client.account).usd > 25 - 9  # eight were in flight
    again = make(price=price, max_usd=client.ledger.spent(client.account).usd + 0.9)
    assert again.ask(ask("more")).fault == "budget"
    assert len(server.seen) == sent


def test_a_cap_counts_requests_also_of_failed_calls(server: ChatServer, make: Make) -> None:
    server.script = lambda body, number: ("500", GOOD)[number % 2]
    found = list(make(max_requests=50, workers=8).ask_all(ask(str(n)) for n in range(100)))
    assert len(server.seen) == 50
    assert len(found) == 100


def test_a_killed_process_leaves_its_reservation_standing(tmp_path: Path) -> None:
    cap = SpendingCap("a", pico_usd=100)
    assert isinstance(Ledger(tmp_path).reserve(RequestBid("l", "k", 5, 60), cap, Limits()), int)
    again = Ledger(tmp_path)
    assert again.reserve(RequestBid("l", "k", 5, 60), cap, Limits()) is None
    assert again.spent("a").open_requests == 1


def test_the_pace_is_kept_in_every_window_and_nearly_used_up(
    server: ChatServer, make: Make
) -> None:
    client = make(window_s=2.0, requests_per_minute=40, workers=4)
    list(client.ask_all(ask(str(n)) for n in range(130)))
    # Counted where they arrive; 50 ms for a server that shares two cores with its clients.
    most = max(sum(a <= b < a + 1.95 for b in server.at) for a in server.at)
    # Nearly used up in the fullest window: how long all of them take is the machine's affair.
    assert 36 <= most <= 40
    assert len(server.at) == 130


def test_tokens_a_minute_are_kept_and_returned_when_settled(make: Make) -> None:
    # a call reserves some 120, takes 50.
    client = make(window_s=0.8, tokens_per_minute=1000)
    began = time.monotonic()
    found = [outcome for _, outcome in client.ask_all(ask(str(n)) for n in range(40))]
    assert all(outcome.is_usable for outcome in found)
    assert 0.8 <= time.monotonic() - began <= 12
    with pytest.raises(SemError, match="a request of up to"):
        make(tokens_per_minute=50).ask(ask("larger than a minute"))


def test_a_model_without_a_price_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SemError, match="the price of openai/stub is unknown"):
        make(price=None)
    listed = Calls((Provider("openai/gpt-4o-mini"),))
    estimate = Client(listed, tmp_path, "t", AT).estimate([ask()])
    assert 0 < estimate.likely_usd < estimate.at_most_usd < 0.001


def test_an_estimate_counts_only_what_is_not_cached(server: ChatServer, make: Make) -> None:
    client = make()
    client.ask(ask("a"))
    estimate = client.estimate([ask("a"), ask("b")])
    assert (estimate.calls, estimate.cached, len(server.seen)) == (1, 1, 1)


def test_the_key_comes_from_the_environment_alone(
    server: ChatServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().ask(ask())
    assert server.keys == [f"Bearer {KEY}"]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-place")
    other = Provider("openai/stub", "", server.url, None, Price(0, 0))
    make(models=(other,)).ask(ask("b"))
    assert "another" not in server.keys[1]
    monkeypatch.delenv("STUB_KEY")
    with pytest.raises(SemError, match="STUB_KEY is not set"):
        make()
    with pytest.raises(SemError, match="holds a password"):
        Provider("openai/stub", api_base="http://me:secret@host/v1")


def test_a_reply_that_repeats_the_key_is_kept_without_it(
    server: ChatServer, make: Make, tmp_path: Path
) -> None:
    server.script = lambda body, number: f"your key is {KEY}"
    outcome = make().ask(ChatRequest((("user", "x"),)))
    assert outcome.text == "your key is [key]"
    assert KEY.encode() not in b"".join(p.read_bytes() for p in (tmp_path / "lm").iterdir())


def test_a_request_counts_from_its_answer_and_while_it_is_under_way(tmp_path: Path) -> None:
    ledger, limits = Ledger(tmp_path), Limits(requests=1, window_s=0.5)
    first = ledger.reserve(RequestBid("l", "a", 1, 0), SpendingCap("c"), limits)
    # Still under way: the provider may see it only now.
    time.sleep(0.6)
    assert isinstance(ledger.reserve(RequestBid("l", "b", 1, 0), SpendingCap("c"), limits), float)
    ledger.settle(first, 1, 0, None)
    pause = ledger.reserve(RequestBid("l", "b", 1, 0), SpendingCap("c"), limits)
    assert 0.4 < pause <= 0.55


def test_the_ledger_is_for_its_owner_alone(make: Make, tmp_path: Path) -> None:
    make().ask(ask())
    assert stat.S_IMODE((tmp_path / "lm").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "lm" / "calls.sqlite").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STUB_LOGIN", "plain-words-1234"),
        ("MY_KEY_2", "zzzzzzzzzzzz"),
        ("JUDGE", "/starts/with/a/slash"),
        ("AUTH", 'with "quotes" and \\ in it'),
        ("PASS_PHRASE", "needs+percent/encoding=="),
    ],
)
@pytest.mark.parametrize("spelling", ["as it is", "in a URL", "in JSON", "in Basic auth"])
def test_every_key_that_was_read_is_masked_whatever_its_variable_is_called(
    server: ChatServer, tmp_path: Path, monkeypatch, variable: str, value: str, spelling: str
) -> None:
    # 7 of 8 leaked: only variables called *_KEY were looked at, and no value with a slash.
    monkeypatch.setattr(redact, "_registered", set())
    monkeypatch.setenv(variable, value)
    settings = Calls(models=(Provider("openai/stub", "", server.url, variable, PAID),))
    Client(settings, tmp_path / "lm", "test", AT)
    echo = {
        "as it is": value,
        "in a URL": quote(value, safe=""),
        "in JSON": json.dumps(value),
        "in Basic auth": base64.b64encode(value.encode()).decode(),
    }[spelling]

    masked = redact.redact_secrets(f"401: no {echo}, try again")

    assert echo.strip('"=') not in masked
    assert masked.startswith("401: no ")
    assert masked.endswith(", try again")


def test_keys_are_taken_out_of_text_and_of_log_records(caplog: pytest.LogCaptureFixture) -> None:
    os.environ["SOME_SECRET"] = "hunter2hunter2"
    assert redact.redact_secrets("a hunter2hunter2 b") == "a [key] b"
    assert (
        redact.redact_secrets("Authorization: Bearer abcdefgh1234")
        == "Authorization: Bearer [key]"
    )
    redact.redact_loggers("someone.else")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("someone.else").error("with %s", KEY)
    assert KEY not in caplog.text
    assert "with [key]" in caplog.text
    del os.environ["SOME_SECRET"]
