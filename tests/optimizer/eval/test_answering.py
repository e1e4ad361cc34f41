"""Who answers, by the form of its name; over real HTTP, and by real weights."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from chatserver import ChatServer

from sem.core.errors import SemError
from sem.lm.api import client as client_module
from sem.optimizer.eval import answering
from sem.optimizer.eval.answering import ModelAnswer

AT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.01)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(lambda body, number: body["messages"][-1]["content"].upper()) as made:
        yield made


@pytest.mark.parametrize(
    ("given", "model", "address"),
    [
        ("local", "openai/local", "http://127.0.0.1:8080/v1"),
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini", None),
        ("openai/q@http://127.0.0.1:9/v1", "openai/q", "http://127.0.0.1:9/v1"),
    ],
)
def test_the_form_of_a_name_says_where_the_model_is(given, model, address):
    calls = answering.answerer_calls(given)

    assert (calls.models[0].model, calls.models[0].api_base) == (model, address)
    # An address is asked without a key; a company's model has a cap.
    assert bool(calls.models[0].key_env) == (address is None) == bool(calls.max_usd)
    assert calls.models[0].json_mode is False


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("smollm3", "no weights, and no model whose key is known"),
        ("nobody/model", "no weights, and no model whose key is known"),
        ("openai/x@ftp://host", "is not an address"),
        ("openai/x@http://me:secret@host/v1", "holds a password"),
    ],
)
def test_what_names_no_model_is_one_error(given: str, said: str, tmp_path: Path):
    with pytest.raises(SemError, match=said) as error:
        answering.find_answerer(given, tmp_path, AT)
    assert "secret@" not in str(error.value)


def test_answers_come_in_order_and_are_not_asked_twice(server: ChatServer, tmp_path: Path):
    given = f"openai/stub@{server.url}"
    asked = [f"prompt {number}" for number in range(12)]
    for _ in range(2):
        said = answering.find_answerer(given, tmp_path, AT).answer(asked)
        assert said == [ModelAnswer(text.upper(), "stop") for text in asked]
    assert len(server.seen) == 12
    assert {(body["temperature"], body["max_tokens"]) for body in server.seen} == {(0.0, 256)}
    assert "response_format" not in server.seen[0]


@pytest.mark.parametrize(
    ("fault", "finish", "is_scored"),
    [
        # Nothing said: a bad answer.
        ("", "stop", True),
        ("length", "length", True),
        ("500", "server_error", False),
        ("html", "not_json", False),
        ("hang", "timeout", False),
    ],
)
def test_a_fault_is_no_answer_and_has_a_name(
    server: ChatServer, tmp_path: Path, monkeypatch, fault: str, finish: str, is_scored: bool
):
    server.script = lambda body, n: fault if "odd" in str(body) else "even"
    server.hang_s = 0.5
    answerer = answering.find_answerer(f"openai/stub@{server.url}", tmp_path, AT)
    monkeypatch.setattr(
        answerer.client, "settings", client_module.replace(answerer.client.settings, timeout_s=0.2)
    )
    even, odd = answerer.answer(["even", "odd"])

    assert even == ModelAnswer("even", "stop")
    assert (odd.finish, odd.is_scored) == (finish, is_scored)


def test_a_refused_key_stops_at_once(server: ChatServer, tmp_path: Path):
    server.script = lambda body, n: "401"
    with pytest.raises(SemError, match="stopped answering: auth") as error:
        answering.find_answerer(f"openai/stub@{server.url}", tmp_path, AT).answer(["a", "b"])
    assert "whole answers so far are kept" in error.value.hint


def test_weights_answer_and_refuse_what_does_not_fit(
    tiny_model: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    monkeypatch.setattr(answering, "MOST_TOKENS", 6)
    answerer = answering.find_answerer(str(tiny_model), tmp_path, AT)
    short, long, again = answerer.answer(["one", "two " * 600, "one"])

    assert short == again
    assert short.finish in ("stop", "length")
    assert long == ModelAnswer("", "refused")
    assert not long.is_scored
    assert answerer.name.startswith("tiny ")


def test_an_encoder_decoder_does_not_answer(tmp_path: Path):
    from toy import make_t5

    with pytest.raises(SemError, match="is not a chat model"):
        answering.find_answerer(str(make_t5(tmp_path / "t5")), tmp_path, AT)
