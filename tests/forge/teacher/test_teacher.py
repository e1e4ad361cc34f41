"""The teacher: presets, order, faults as data, caps, resume at no cost."""

import json
import os
from datetime import UTC, datetime

import pytest
from chatserver import ChatServer

from sem.core.errors import SemError
from sem.forge.teacher import presets
from sem.forge.teacher.presets import TeacherSettings
from sem.forge.teacher.teacher import ReplyJournal, make_teacher
from sem.lm.api import client as client_module
from sem.lm.api.provider import Calls, Price, Provider

AT = datetime(2026, 11, 21, tzinfo=UTC)
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}}}


def echo(body, number):
    return json.dumps({"n": body["messages"][0]["content"]})


def settings_at(url, **changes):
    provider = Provider(
        "openai/stub", api_base=url, key_env="STUB_KEY", price=changes.pop("price", Price(1, 1))
    )
    calls = Calls((provider,), **{"workers": 4, "timeout_s": 5.0, "tries": 2, **changes})
    return TeacherSettings(calls=calls, max_tokens=64)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("STUB_KEY", "sk-canary-0123456789")
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.01)


def asks(made, count):
    return (made.request((("user", str(n)),), SCHEMA, "t") for n in range(count))


def test_a_damaged_journal_is_named(tmp_path):
    path = tmp_path / "unusable.jsonl"
    path.write_text('{"x": 1}\n')

    with pytest.raises(SemError) as found:
        ReplyJournal(path)
    assert str(found.value) == (
        f"{path}: damaged\n       delete it: the replies in it are asked for again"
    )


def test_a_server_that_is_down_is_told_with_what_it_did_last(tmp_path):
    settings = settings_at("http://127.0.0.1:9/v1", workers=1, tries=8)
    made = make_teacher(settings, tmp_path, AT)

    with pytest.raises(SemError) as found:
        list(made.ask_all(asks(made, 40)))
    told = "circuit: openai/stub failed too often in a row (at last connection: "
    assert told in found.value.message
    assert "`fab forge.serve` starts the local one" in found.value.hint


def test_replies_come_in_the_order_of_their_requests(tmp_path):
    def slow_first(body, number):
        server.delay_s = 0.2 if body["messages"][0]["content"] == "0" else 0.0
        return echo(body, number)

    with ChatServer(slow_first) as server:
        made = make_teacher(settings_at(server.url), tmp_path, AT)
        said = [(n, outcome.value["n"]) for n, outcome in made.ask_all(asks(made, 40))]

    assert said == [(n, str(n)) for n in range(40)]


def test_requests_are_drawn_only_a_few_ahead_of_what_is_taken(tmp_path):
    drawn = []

    def counted(made):
        for request in asks(made, 200):
            drawn.append(request)
            yield request

    with ChatServer(echo) as server:
        made = make_teacher(settings_at(server.url, workers=2), tmp_path, AT)
        replies = made.ask_all(counted(made))
        next(replies)
        replies.close()

    assert len(drawn) <= 2 * 4 + 1


def test_a_second_run_sends_nothing_and_says_the_same(tmp_path):
    with ChatServer(echo) as server:
        first = make_teacher(settings_at(server.url), tmp_path, AT)
        said = [outcome.value for _, outcome in first.ask_all(asks(first, 10))]
        sent = len(server.seen)
        again = make_teacher(settings_at(server.url), tmp_path, AT)
        same = [outcome.value for _, outcome in again.ask_all(asks(again, 10))]

    assert (sent, len(server.seen)) == (10, 10)
    assert same == said
    assert again.spending.cached == 10


def test_a_reply_that_cannot_be_used_is_paid_once_and_never_asked_again(tmp_path):
    with ChatServer(lambda body, number: "no JSON") as server:
        said = []
        for _ in range(2):
            made = make_teacher(
                settings_at(server.url), tmp_path, AT, ReplyJournal(tmp_path / "unusable.jsonl")
            )
            said.append([outcome.fault for _, outcome in made.ask_all(asks(made, 3))])

    assert said == [["invalid_json"] * 3] * 2
    # Three calls and one more try of each.
    assert len(server.seen) == 6


def test_a_journal_torn_by_a_kill_is_read_up_to_its_last_whole_line(tmp_path):
    path = tmp_path / "unusable.jsonl"
    path.write_text('{"detail":"d","fault":"length","key":"a"}\n{"detail":"d","fau')

    journal = ReplyJournal(path)

    assert journal.outcome("a").fault == "length"
    assert journal.outcome("b") is None
    assert path.read_text().count("\n") == 1


def test_the_cap_stops_the_run_and_says_how_to_go_on(tmp_path):
    with ChatServer(echo) as server:
        made = make_teacher(settings_at(server.url, max_requests=5, workers=8), tmp_path, AT)
        with pytest.raises(SemError) as stopped:
            list(made.ask_all(asks(made, 50)))

    assert len(server.seen) <= 5
    assert stopped.value.message.startswith("the teacher stopped: budget: the cap of 'forge")
    assert "--limit N" in stopped.value.hint


def test_faults_are_counted_and_the_others_go_on(tmp_path):
    def script(body, number):
        name = body["messages"][0]["content"]
        return {"1": "500", "3": "length", "5": '{"n": 5}'}.get(name, echo(body, number))

    with ChatServer(script) as server:
        made = make_teacher(settings_at(server.url), tmp_path, AT)
        faults = [outcome.fault for _, outcome in made.ask_all(asks(made, 7))]

    assert faults == [None, "server_error", None, "length", None, "wrong_schema", None]
    assert made.spending.faults == {"server_error": 1, "length": 1, "wrong_schema": 1}


def test_presets_name_a_model_and_the_variable_with_its_key():
    cheap, good = (
        presets.teacher_calls(TeacherSettings()),
        presets.teacher_calls(TeacherSettings("good")),
    )

    assert [c.models[0].model for c in (cheap, good)] == ["openai/gpt-4o-mini", "openai/gpt-4o"]
    assert cheap.models[0].key_env == "OPENAI_API_KEY"
    assert cheap.max_usd == 2.0


def test_the_local_preset_is_free_and_goes_nowhere_else():
    calls = presets.teacher_calls(TeacherSettings("local"))

    assert calls.models[0].api_base == "http://127.0.0.1:8080/v1"
    assert calls.models[0].price == Price(0, 0)
    assert calls.models[0].key_env is None


def test_an_address_that_only_looks_local_is_not_free():
    made = TeacherSettings("local", api_base="http://127.0.0.1.example.org/v1")

    assert presets.teacher_calls(made).models[0].price is None


def test_another_model_takes_the_key_of_its_company():
    made = TeacherSettings("good", model="anthropic/claude-sonnet-4-5")

    assert presets.teacher_calls(made).models[0].key_env == "ANTHROPIC_API_KEY"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "chep"}, "teacher: no preset is called 'chep'"),
        (
            {"preset": "good", "calls": Calls()},
            "teacher: `calls` beside preset, model or api_base",
        ),
        ({"max_tokens": 1}, "max_tokens 1, pilot 20, reasks 1"),
    ],
)
def test_settings_that_contradict_are_refused(values, message):
    with pytest.raises(SemError) as refused:
        TeacherSettings(**values)

    assert refused.value.message == message


def test_no_key_is_needed_to_look_and_one_is_to_ask(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = make_teacher("cheap", tmp_path, AT, watch=lambda *_: True, dry=True)
    outcome = made(next(asks(made, 1)))

    assert outcome.fault == "not_sent"
    with pytest.raises(SemError, match="OPENAI_API_KEY is not set"):
        make_teacher("cheap", tmp_path, AT)(next(asks(made, 1)))
    assert "OPENAI_API_KEY" not in os.environ
