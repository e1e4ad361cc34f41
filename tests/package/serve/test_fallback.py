"""A strong model behind the expert: asked where it is needed, paid by the day, never over it."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from chatserver import ChatServer
from experts import ServedExpert, wait_for
from paths import ROOT
from toy import SPEC

from sem import Expert
from sem.core import files, settings
from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.lm.api.provider import Provider
from sem.package.serve import predict
from sem.package.serve.expert import PageQuestion, improve_extraction
from sem.package.serve.fallback import (
    Fallback,
    FallbackSettings,
    fallback_request,
    open_fallback,
)
from sem.package.serve.predict import PredictOptions

PAGE = "<html><body><h1>Red mug</h1><p class=price>12.50</p></body></html>"
GOOD = '{"title":"Red mug","price":12.5}'
TASK = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "tiny"}, "toy")
# A process of 8 needs some seconds for its imports, on two cores.
STARTED_WITHIN_S = 120


@pytest.fixture(scope="module")
def expert(package_master):
    with Expert.load(package_master, verify=False) as loaded:
        yield loaded


@pytest.fixture
def server():
    with ChatServer(lambda body, number: GOOD) as running:
        yield running


@pytest.fixture
def strong(server, tmp_path):
    """Return what makes a fallback at the server; every answer is below its 1.0."""

    def make(clock=None, **changes):
        provider = Provider("openai/strong", api_base=server.url)
        ledger = str(tmp_path / "ledger")
        chosen = FallbackSettings(**{"model": provider, "below": 1.0, "ledger": ledger} | changes)
        return Fallback(chosen, clock) if clock else Fallback(chosen)

    return make


def improved(expert, strong, page=PAGE):
    return improve_extraction(expert.extract(page), expert.contract.tasks, strong)


def reserved_tokens(page="page") -> int:
    request = fallback_request(TASK, page, 1_024)
    return request.most_tokens_in + request.max_tokens


def test_an_unsure_answer_is_the_strong_models_and_says_so(expert, strong) -> None:
    extraction = improved(expert, strong())

    assert extraction.value == json.loads(GOOD)
    assert extraction.as_json()["fallback"] == {
        "status": "used",
        "reason": None,
        "model": "openai/strong",
        "tokens_in": 40,
        "tokens_out": 10,
        "cached": False,
    }
    assert {name: slot.grounded for name, slot in extraction.slots.items()} == {
        "title": True,
        "price": True,
    }
    assert extraction.confidence is None


def test_a_sure_answer_is_not_sent_anywhere(expert, strong, server) -> None:
    extraction = improved(expert, strong(below=0.0))

    assert extraction.fallback.status == "not_needed"
    assert extraction.value == expert.extract(PAGE).value
    assert server.seen == []


def test_what_the_model_could_not_answer_is_asked_and_a_bad_page_is_not(expert, strong) -> None:
    long_page = "<h1>Red mug</h1><p>12.5</p>" + "<p>word and word </p>" * 4_000

    assert expert.extract(long_page).refusal.reason == "prompt_too_long"
    assert improved(expert, strong(), long_page).value == json.loads(GOOD)
    assert improved(expert, strong(), "").refusal.reason == "no_input"


def test_personal_data_stays_here_and_is_put_back_into_the_answer(expert, strong, server) -> None:
    server.script = lambda body, number: '{"title":"ask [EMAIL_1]","price":null}'
    extraction = improved(expert, strong(), "<p>Red mug, ask ann@example.com</p>")
    sent = json.dumps(server.seen)

    assert "[EMAIL_1]" in sent
    assert "ann@example.com" not in sent
    assert extraction.value["title"] == "ask ann@example.com"
    assert extraction.slots["title"].value == "ask ann@example.com"


FAILING = {
    "a refused key": ("401", "auth"),
    "prose": ("I cannot tell.", "invalid_json"),
    "another schema": ('{"title":"a","price":"b","more":1}', "wrong_schema"),
    "half an answer": ("length", "length"),
    "a page instead of an API": ("html", "not_json"),
    "a broken server": ("500", "server_error"),
    "a reply that never comes": ("hang", "timeout"),
    # An injected page makes a model say what the page does not hold.
    "an invention": ('{"title":"Gold bar","price":99999}', "ungrounded"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_strong_model_that_fails_leaves_the_experts_answer(expert, strong, server, case) -> None:
    reply, reason = FAILING[case]
    server.script = lambda body, number: reply
    own = replace(expert.extract(PAGE), slots={}, value={"title": "Red mug", "price": None})
    fallback = strong(tries=2, timeout_s=1.0)
    # An answer with no slot has no confidence, and this one is unsure.
    fallback.is_needed = lambda confidence, refusal: True
    extraction = improve_extraction(own, expert.contract.tasks, fallback)

    assert (extraction.fallback.status, extraction.fallback.reason) == ("failed", reason)
    assert extraction.value == own.value


def test_over_budget_the_expert_answers_alone_also_after_a_restart(expert, strong, server) -> None:
    page = expert.extract(PAGE).page
    cap = reserved_tokens(page) + 50
    first, second = strong(daily_tokens=cap), strong(daily_tokens=cap)
    statuses = [improved(expert, first, PAGE).fallback.status]
    # Other pages: what was answered before costs nothing.
    statuses += [
        improved(expert, again, PAGE.replace("mug", name)).fallback.status
        for again, name in ((first, "pot"), (second, "pan"))
    ]

    assert statuses == ["used", "used", "over_budget"]
    assert first.tokens_left == cap - 100
    # The same page again is in the ledger: no request, no tokens.
    cached = improved(expert, second, PAGE).fallback
    assert (cached.status, cached.cached) == ("used", True)
    assert len(server.seen) == 2


def test_a_new_day_of_utc_has_its_tokens_anew(strong, server) -> None:
    now = [datetime(2026, 12, 1, 23, 59, 59, tzinfo=UTC)]
    fallback = strong(lambda: now[0], daily_tokens=reserved_tokens("page 0"))

    def status(number: int) -> str:
        return fallback.ask(TASK, f"page {number}")[0].status

    statuses = [status(0), status(1)]
    now[0] = datetime(2026, 12, 2, tzinfo=UTC)
    statuses += [status(1), status(2)]
    assert statuses == ["used", "over_budget", "used", "over_budget"]


def test_a_huge_page_does_not_take_the_day(strong, server) -> None:
    note, value = strong().ask(TASK, "word " * 30_000)

    assert (note.status, note.reason, value) == ("failed", "too_long", None)
    assert server.seen == []


def test_a_ledger_that_cannot_be_read_is_a_flag_and_no_crash(strong, tmp_path) -> None:
    fallback = strong()
    for path in (tmp_path / "ledger").iterdir():
        path.write_bytes(b"not a database" * 1_000)
    with ThreadPoolExecutor(1) as pool:
        note, _ = pool.submit(fallback.ask, TASK, "page").result()

    assert (note.status, note.reason) == ("failed", "ledger")


def test_threads_together_never_pass_the_cap(strong, server) -> None:
    server.count = tokens_of_body
    each = reserved_tokens("page 00")
    strongs = [strong(daily_tokens=each * 12 + 5) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        notes = list(
            pool.map(lambda n: strongs[n % 2].ask(TASK, f"page {n:02d}")[0].status, range(40))
        )

    assert sorted(set(notes)) == ["over_budget", "used"]
    assert (notes.count("used"), len(server.seen)) == (12, 12)


def tokens_of_body(body) -> tuple[int, int]:
    """Return the most tokens that a request can take, as the caller reserves them."""
    words = sum(16 + len(message["content"].encode()) for message in body["messages"])
    return 64 + words, body["max_tokens"]


@pytest.mark.slow
def test_eight_processes_and_kills_never_pass_the_cap(server, tmp_path) -> None:
    server.count, server.delay_s = tokens_of_body, 0.05
    each, most, kills = reserved_tokens("page a1 000000"), 160, 5
    path = tmp_path / "fallback.yaml"
    provider = f"model: {{model: openai/strong, api_base: '{server.url}'}}"
    path.write_text(f"{provider}\ndaily_tokens: {each * most + 9}\nledger: {tmp_path / 'l'}\n")

    def started(name: str) -> subprocess.Popen:
        script = str(ROOT / "tests" / "support" / "fallback_caller.py")
        return subprocess.Popen([sys.executable, script, str(path), name], env=os.environ)

    callers = [started(f"a{n}") for n in range(8)]
    end = time.monotonic() + STARTED_WITHIN_S
    for number in range(kills):
        while len(server.seen) < 8 + 20 * number and time.monotonic() < end:
            time.sleep(0.005)
        # A request of it is in flight: each takes 50 ms.
        callers[number].kill()
        callers.append(started(f"b{number}"))
    codes = [caller.wait(STARTED_WITHIN_S) for caller in callers]

    assert codes == [-9] * kills + [0] * 8
    sent = sum(sum(tokens_of_body(body)) for body in server.seen)
    assert sent <= each * most + 9
    # Nearly used up: a killed process may have reserved a request that never left.
    assert most - kills <= len(server.seen) <= most


def test_http_answers_and_counts_it(expert, strong, server) -> None:
    with ServedExpert(expert, fallback=strong()) as running:
        running.until_ready()
        reply = running.post("/v1/extract", html=PAGE).json()
        metrics = running.http.get("/metrics").text
        server.script = lambda body, number: "401"
        failed = running.post("/v1/extract", html=PAGE.replace("mug", "pot"))

    assert (reply["value"], reply["fallback"]["status"]) == (json.loads(GOOD), "used")
    assert 'sem_expert_fallback_total{status="used"} 1.0' in metrics
    assert 'sem_expert_fallback_tokens_total{side="in"} 40.0' in metrics
    # The first page of the server itself is not asked of a strong model.
    assert len(server.seen) == 2
    assert (failed.status_code, failed.json()["fallback"]["reason"]) == (200, "auth")


def test_a_slow_strong_model_costs_a_request_its_time_and_not_its_answer(
    expert, strong, server
) -> None:
    server.script = lambda body, number: "hang"
    with ServedExpert(expert, fallback=strong(), timeout_s=2.0) as running:
        running.until_ready()
        reply = running.post("/v1/extract", html=PAGE)

    assert reply.status_code == 200
    assert reply.json()["fallback"]["reason"] == "timeout"


def test_a_sure_answer_does_not_wait_for_unsure_ones(expert, strong, server) -> None:
    server.script = lambda body, number: "hang"
    fallback = strong(workers=1)
    fallback.is_needed = lambda confidence, refusal: refusal is not None
    long_page = "<p>word and word </p>" * 4_000
    with (
        ServedExpert(expert, fallback=fallback, timeout_s=20) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        running.until_ready()
        unsure = pool.submit(running.post, "/v1/extract", html=long_page)
        wait_for(lambda: len(server.seen) == 1)
        sure = running.post("/v1/extract", html=PAGE).json()

        assert not unsure.done()
    assert sure["fallback"]["status"] == "not_needed"


def test_a_file_of_settings_is_read_and_predict_writes_and_tallies_it(
    package_master, server, tmp_path
) -> None:
    path = tmp_path / "fallback.yaml"
    lines = [f"model: {{model: openai/strong, api_base: '{server.url}'}}", "below: 1.0"]
    path.write_text("\n".join([*lines, f"ledger: {tmp_path / 'ledger'}"]) + "\n")
    source, target = tmp_path / "pages.jsonl", tmp_path / "answers.jsonl"
    source.write_text('{"id":"a","html":"<p>Red mug 12.5</p>"}\n{"id":"b","html":""}\n')
    with Expert.load(package_master, verify=False, fallback=path) as expert:
        both = expert.extract_many([PageQuestion("<p>Red mug 12.5</p>"), PageQuestion("")])
        options = PredictOptions()
        *_, tally = predict.predict_file(expert, package_master, source, target, options)
        *_, again = predict.predict_file(expert, package_master, source, target, options)
        expert.fallback = None
        with pytest.raises(SemError, match="another fallback"):
            list(predict.predict_file(expert, package_master, source, target, options))

    assert [e.fallback.status for e in both] == ["used", "not_needed"]
    rows = list(files.read_rows(target))
    assert [row["fallback"]["status"] for row in rows] == ["used", "not_needed"]
    assert tally.fallback == again.fallback == {"used": 1, "not_needed": 1}


WRONG = {
    "no file": (None, "no such file"),
    "no model": ("below: 0.5\n", "model"),
    "a share above one": ("model: {model: m}\nbelow: 1.5\n", "below"),
    "an unknown key": ("model: {model: m}\nbelwo: 0.5\n", "belwo"),
    "a key that is not set": ("model: {model: m, key_env: NO_SUCH_KEY}\n", "NO_SUCH_KEY"),
    "a cap in dollars without a price": (
        "model: {model: m, api_base: 'http://127.0.0.1:9/v1'}\nmax_usd: 1\n",
        "price",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_one_line_each(tmp_path, case) -> None:
    text, words = WRONG[case]
    path = tmp_path / "fallback.yaml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(SemError, match=words):
        open_fallback(path)
