"""Who may ask, from where, how much and how slowly; hostile requests get a 4xx and no echo."""

import json
import logging
import socket
import time
from pathlib import Path

import pytest
from rewriters import Served, load, make_optimizer
from toy import make_t5

from sem.core.errors import SemError
from sem.lm.server import process
from sem.lm.server.settings import read_server_keys
from sem.optimizer.server import config
from sem.optimizer.server.config import ServeSettings

KEY = "k" * 24
APP = "https://app.example"
HOSTILE = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "deep": b"[" * 30_000,
    "deep object": b'{"a":' * 10_000,
    "not UTF-8": b"\xff\xfe\x00",
    "half a surrogate": b'{"raw_prompt":"\\ud800"}',
    "NaN prompt": b'{"raw_prompt":NaN}',
    "NaN": b'{"raw_prompt":"a","temperature":NaN}',
    "infinite": b'{"raw_prompt":"a","temperature":1e999}',
    "long integer": b'{"raw_prompt":"a","max_length":' + b"9" * 5_000 + b"}",
    "negative": b'{"raw_prompt":"a","max_length":-1}',
    "zero": b'{"raw_prompt":"a","max_length":0}',
    "too long": b'{"raw_prompt":"a","max_length":513}',
    "half a token": b'{"raw_prompt":"a","max_length":1.5}',
    "a string": b'{"raw_prompt":"a","max_length":"12"}',
    "true": b'{"raw_prompt":"a","max_length":true}',
    "hot": b'{"raw_prompt":"a","temperature":2.1}',
    "cold": b'{"raw_prompt":"a","temperature":-0.1}',
    "null prompt": b'{"raw_prompt":null}',
    "many characters": b'{"raw_prompt":"%s"}' % (b"a" * 4_001),
    "no prompt": b'{"prompt":"a"}',
    "an object": b'{"raw_prompt":{"$ne":1}}',
    "strange key": b'{"raw_prompt":1,"\\ud800":1}',
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("tree")
    make_optimizer(made, make_t5(made / "t5"))
    return made


@pytest.fixture(scope="module")
def served(root):
    with Served(root, lambda: load(root), read_timeout_s=0.5) as running:
        yield running.until_loaded()


@pytest.fixture(scope="module")
def locked(root):
    with Served(root, lambda: load(root), KEY, origins=(APP,), hosts=("opt.example",)) as running:
        yield running.until_loaded()


def ask(served, **headers: str):
    body = {"raw_prompt": "a", "max_length": 4}
    return served.http.post("/optimize", json=body, headers=headers)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", ["/optimize", "/optimize/batch", "/feedback"])
def test_a_hostile_body_is_a_4xx_in_the_one_form(served, path, name):
    sent = HOSTILE[name].replace(b"raw_prompt", b"prompts") if "batch" in path else HOSTILE[name]
    reply = served.http.post(path, content=sent, headers={"content-type": "application/json"})

    assert reply.status_code in (400, 422)
    assert {"detail", "reason", "request_id"} <= reply.json().keys()
    assert reply.headers["x-request-id"] == reply.json()["request_id"]
    assert "input" not in reply.json()
    assert "Traceback" not in reply.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_json_that_is_not_called_json_is_refused(served, kind):
    # What a page elsewhere can send without asking the browser for permission.
    headers = {"content-type": kind} if kind else {}
    reply = served.http.post("/optimize", content=b'{"raw_prompt":"a"}', headers=headers)

    assert reply.status_code == 422


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "a b"]
)
def test_another_host_is_refused(served, host):
    reply = ask(served, host=host)

    assert (reply.status_code, reply.json()["reason"]) == (400, "unknown_host")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:8000", "[::1]:8000"])
def test_this_host_is_known_by_its_names(served, host):
    assert ask(served, host=host).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:1", APP],
)
def test_a_page_of_another_address_may_not_ask(served, origin):
    reply = ask(served, origin=origin)

    assert (reply.status_code, reply.json()["reason"]) == (403, "foreign_origin")
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_the_own_page_may_ask_and_a_listed_one(served, locked):
    assert ask(served, origin=f"http://127.0.0.1:{served.port}").status_code == 200
    reply = ask(locked, origin=APP, authorization=f"Bearer {KEY}")
    asked = {
        "origin": APP,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, x-api-key",
    }
    before = locked.http.options("/optimize", headers=asked)

    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, APP)
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, APP)
    assert "access-control-allow-credentials" not in reply.headers
    assert ask(locked, host="opt.example", authorization=f"Bearer {KEY}").status_code == 200


@pytest.mark.parametrize(
    "shown", ["", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Basic aa", "é"]
)
def test_without_the_key_nothing_is_rewritten(locked, shown):
    headers = {"authorization": shown.encode("utf-8")} if shown else {}
    reply = locked.http.post("/optimize", json={"raw_prompt": "a"}, headers=headers)

    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert locked.http.get("/metrics").status_code == 401
    assert locked.http.get("/health").status_code == 200


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}])
def test_with_the_key_it_is(locked, headers):
    assert ask(locked, **headers).status_code == 200


def test_a_long_body_is_refused_before_it_is_read(served):
    declared = send(
        served, b"POST /optimize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\nx"
    )
    chunk = b"%x\r\n%s\r\n" % (60_000, b"x" * 60_000)
    chunked = send(
        served,
        b"POST /optimize HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk,
    )

    for reply in (declared, chunked):
        assert reply.startswith(b"HTTP/1.1 413 ")
        assert b'"detail":"a request is at most 65,536 bytes"' in reply


def test_a_slow_body_and_slow_headers_are_cut_off(served):
    head = b"POST /optimize HTTP/1.1\r\nHost: localhost\r\n"
    assert send(served, head + b"Content-Length: 9\r\n\r\n{").startswith(b"HTTP/1.1 408 ")
    assert send(served, head) == b""
    assert send(served, b"") == b""
    # A second request on a connection that had a first is held to the same.
    first = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert send(served, first + head).count(b"HTTP/1.1 200 OK") == 1


def send(served, data: bytes, within_s: float = 10) -> bytes:
    """Return what comes back for `data` until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", served.port), within_s) as connection:
        connection.sendall(data)
        found = b""
        while part := connection.recv(65_536):
            found += part
    return found


def test_every_answer_has_the_security_headers(served):
    replies = [served.http.get(path) for path in ("/", "/docs", "/health", "/nothing")]
    replies.append(served.http.delete("/optimize"))

    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert [reply.status_code for reply in replies] == [200, 200, 200, 404, 405]


def logged_lines(caplog, request_id: str, within_s: float = 30) -> list[dict]:
    """Return what was logged, once the request is: the server writes its line after its reply."""
    end = time.monotonic() + within_s
    while True:
        lines = [json.loads(process.AsJson().format(record)) for record in [*caplog.records]]
        is_there = any(line.get("request_id") == request_id for line in lines)
        if is_there or time.monotonic() > end:
            return lines
        time.sleep(0.01)


def test_the_log_has_the_request_and_neither_prompt_nor_key(served, caplog, monkeypatch):
    monkeypatch.setenv("SEM_API_KEY", "very-secret-value-1234")
    logger = logging.getLogger("sem.serve")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.INFO, "sem.serve"):
        reply = served.post("/optimize", raw_prompt="my private words", max_length=4)
        lines = logged_lines(caplog, reply.headers["x-request-id"])
    (line,) = [line for line in lines if line.get("request_id") == reply.headers["x-request-id"]]

    assert (line["event"], line["route"], line["status"]) == ("request", "/optimize", 200)
    assert (line["prompts"], line["max_length"]) == (1, 4)
    assert "private" not in str(lines)
    logger.warning("very-secret-value-1234 and sk-abcdefgh1234")
    said = process.AsJson().format(caplog.records[-1])
    assert json.loads(said)["event"] == "[key] and [key]"


def test_a_server_open_to_others_asks_for_a_key(monkeypatch):
    monkeypatch.delenv("SEM_API_KEY", raising=False)
    assert read_server_keys(ServeSettings(), config.KEY) == ()
    with pytest.raises(SemError, match="host '0.0.0.0' is open to other machines, and no key"):
        read_server_keys(ServeSettings(host="0.0.0.0"), config.KEY)
    monkeypatch.setenv("SEM_API_KEY", "short")
    with pytest.raises(SemError, match="SEM_API_KEY has 5 characters"):
        read_server_keys(ServeSettings(), config.KEY)
    monkeypatch.setenv("SEM_API_KEY", KEY)
    assert read_server_keys(ServeSettings(host="0.0.0.0"), config.KEY) == (KEY,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["serve.max_batch=0"], "max_batch: 0"),
        (["serve.max_waiting=8"], "max_prompts: 32, more than max_waiting: 8"),
        (["serve.origins=['*']"], "origins: '*'"),
        (["serve.wokers=2"], "unknown key 'wokers'"),
        (["server.port=1"], "--set 'server.port=1': not a key of serve.yaml"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, given, said):
    with pytest.raises(SemError) as caught:
        config.load_serve_settings(tmp_path, tuple(given))

    assert said in caught.value.message


def test_the_settings_file_says_every_default():
    from rewriters import ROOT

    from sem.core import settings

    path = ROOT / config.FILE
    assert config.load_serve_settings(ROOT) == ServeSettings()
    assert settings.read_settings_file(path).keys() == vars(ServeSettings()).keys()


def test_time_to_answer_is_not_held_up_by_slow_clients(served):
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(60)]
    for number, connection in enumerate(held):
        connection.sendall(b"POST /optimize HTTP/1.1\r\nHost: localhost\r\n")
        if number % 2:
            connection.sendall(b"Content-Length: 50\r\n\r\n{")
    began = time.monotonic()
    assert served.http.get("/health").status_code == 200
    assert ask(served).status_code == 200
    # And not for as long as they like.
    assert time.monotonic() - began < 10
    for connection in held:
        connection.settimeout(10)
        while connection.recv(65_536):
            pass
        connection.close()
