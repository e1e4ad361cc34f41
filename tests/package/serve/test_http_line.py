"""Pages that wait: answered together, bounded, none of them lost when the server ends."""

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from experts import GatedExpert, RunningExpert, ServedExpert, wait_for

from sem import Expert
from sem.core import files, schema
from sem.core.errors import SemError
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.ingest.readers import ReadReporter
from sem.lm.server.settings import read_server_keys
from sem.package.serve.http.capture import CaptureFolder
from sem.package.serve.http.settings import KEYS, ExpertSettings, expert_settings

PAGE = "<html><body><h1>Red mug</h1><p class=price>12.50</p></body></html>"


@pytest.fixture(scope="module")
def expert(package_master):
    with Expert.load(package_master, verify=False) as loaded:
        yield loaded


@pytest.fixture
def gated(expert) -> GatedExpert:
    return GatedExpert(expert)


@pytest.fixture
def serve(gated):
    """A function that serves `gated` with some settings, and closes its gate."""
    running = []

    def start(**settings) -> ServedExpert:
        running.append(ServedExpert(gated, **settings).until_ready())
        gated.gate.clear()
        return running[0]

    yield start
    gated.gate.set()
    for server in running:
        server.__exit__(None, None, None)


def ask(served: ServedExpert, page: str) -> httpx.Response:
    return served.post("/v1/extract", html=f"<p>{page}</p>")


def test_pages_that_wait_together_are_one_call_of_the_engine(serve, gated) -> None:
    served = serve(max_batch=3)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        waiting = []
        for number in range(4):
            waiting.append(pool.submit(ask, served, f"a{number}"))
            wait_for(lambda number=number: len(served.service.line) == number + 1)
        gated.gate.set()
        replies = [future.result() for future in (first, *waiting)]

    assert {reply.status_code for reply in replies} == {200}
    pages = [["first"], ["a0", "a1", "a2"], ["a3"]]
    assert gated.batches == [[f"<p>{page}</p>" for page in batch] for batch in pages]


def test_an_idle_engine_waits_briefly_for_company(serve, gated) -> None:
    served = serve(max_wait_ms=500, max_batch=2)
    gated.gate.set()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda page: ask(served, page), "ab"))

    assert [len(batch) for batch in gated.batches] == [2]


def test_a_full_line_is_429_with_retry_after_and_nobody_in_line_suffers(serve, gated) -> None:
    served = serve(max_waiting=2, max_batch=2)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        waiting = [pool.submit(ask, served, f"w{number}") for number in range(2)]
        wait_for(lambda: len(served.service.line) == 2)
        refused = ask(served, "one more")
        health = served.http.get("/health")
        gated.gate.set()
        replies = [future.result() for future in (first, *waiting)]

    assert (refused.status_code, refused.json()["reason"]) == (429, "queue_full")
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    # Answered while the engine was busy.
    assert health.json()["waiting"] == 2
    assert [reply.status_code for reply in replies] == [200] * 3


def test_a_client_that_left_is_not_answered(serve, gated) -> None:
    served = serve()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{served.url}/v1/extract", json={"html": "left"}, timeout=0.3, trust_env=False
            )
        left = served.service.metrics.refused.labels("client_left")._value.get
        wait_for(lambda: left() == 1)
        gated.gate.set()
        assert first.result().status_code == 200
        assert ask(served, "after").status_code == 200

    assert gated.batches == [["<p>first</p>"], ["<p>after</p>"]]


def test_no_answer_in_time_is_503_and_the_late_page_is_passed_over(serve, gated) -> None:
    served = serve(timeout_s=0.4)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        replies = [pool.submit(ask, served, "second").result(), first.result()]
    gated.gate.set()
    wait_for(lambda: ask(served, "third").status_code == 200)

    assert [(reply.status_code, reply.json()["reason"]) for reply in replies] == [
        (503, "timeout")
    ] * 2
    assert ["<p>second</p>"] not in gated.batches


def test_a_page_that_breaks_the_engine_costs_its_neighbours_nothing(serve, gated) -> None:
    served = serve(max_batch=4)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        waiting = [pool.submit(ask, served, page) for page in ("a", "BOOM", "b")]
        wait_for(lambda: len(served.service.line) == 3)
        gated.gate.set()
        replies = [future.result() for future in (first, *waiting)]

    assert [reply.status_code for reply in replies] == [200, 200, 503, 200]
    assert replies[2].json()["reason"] == "engine_failed"
    assert "secret" not in replies[2].text


def test_an_engine_without_room_for_a_batch_answers_its_pages_alone(
    serve, gated, expert, monkeypatch
) -> None:
    # Out of memory over four pages together, each of which has room alone.
    generate = expert.engine.generate

    def generate_few(prompts):
        if len(prompts) > 1:
            raise MemoryError
        return generate(prompts)

    monkeypatch.setattr(expert.engine, "generate", generate_few)
    served = serve(max_batch=4)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        waiting = [pool.submit(ask, served, f"w{number}") for number in range(3)]
        wait_for(lambda: len(served.service.line) == 3)
        gated.gate.set()
        replies = [future.result() for future in (first, *waiting)]

    assert [reply.status_code for reply in replies] == [200] * 4
    assert [len(batch) for batch in gated.batches] == [1, 3, 1, 1, 1]


def test_ending_answers_what_was_accepted_and_takes_nothing_new(serve, gated) -> None:
    served = serve(max_batch=2)
    with ThreadPoolExecutor(8) as pool:
        accepted = [pool.submit(ask, served, "first")]
        assert gated.entered.wait(10)
        accepted += [pool.submit(ask, served, f"w{number}") for number in range(5)]
        wait_for(lambda: len(served.service.line) == 5)
        ending = threading.Thread(target=served.end)
        ending.start()
        wait_for(lambda: not served.server.servers[0].sockets)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.url}/health", trust_env=False)
        gated.gate.set()
        replies = [future.result() for future in accepted]
        ending.join(30)

    assert [reply.status_code for reply in replies] == [200] * 6
    assert not ending.is_alive()
    assert served.total("accepted") == served.total("answered") == 6


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"[" * 30_000,
    b'{"html":"\\ud800"}',
    b'{"html":NaN}',
    b'{"html":{"$ne":1}}',
    b'{"html":""}',
    b'{"html":"<script>while(1);</script>"}',
    b'{"html":"\\u0000\\u0001"}',
    b'{"html":"%s"}' % (b"<div>" * 20_000),
    b'{"html":"<p %s>"}' % b" ".join(b"a%d=1" % number for number in range(5_000)),
    b'{"html":"a","task":"%s"}' % (b"x" * 10_000),
    b'{"html":"a","task":"../../etc/passwd"}',
    b'{"html":"a","url":"javascript:alert(1)"}',
    b'{"html":"%s"}' % ("‮‍" * 500).encode(),
]


@pytest.mark.slow
def test_500_requests_with_hostile_ones_among_them_are_no_fault_of_the_server(expert) -> None:
    dice, seen = random.Random(7), Counter()
    spec = expert.contract.task("price")
    with ServedExpert(GatedExpert(expert), max_waiting=500).until_ready() as served:

        def ask_one(number: int) -> httpx.Response:
            is_hostile = number % 4 == 0
            page = b'{"html":"<h1>Mug</h1><p>%d.50</p>"}' % number
            content = dice.choice(HOSTILE) if is_hostile else page
            headers = {"content-type": "application/json"}
            return served.http.post("/v1/extract", content=content, headers=headers)

        with ThreadPoolExecutor(16) as pool:
            for reply in pool.map(ask_one, range(500)):
                seen[reply.status_code] += 1
                if reply.status_code == 200:
                    assert schema.schema_problems(reply.json()["value"], spec.io_schema) == []

    assert sum(seen.values()) == 500
    assert seen[200] >= 375
    assert not [status for status in seen if status >= 500], seen


@pytest.mark.slow
def test_sigterm_under_load_loses_nothing_that_was_accepted(package_master, tmp_path) -> None:
    answers: Counter[int] = Counter()
    over = threading.Event()

    def ask_on(url: str) -> None:
        while not over.is_set():
            try:
                body = {"html": PAGE}
                reply = httpx.post(f"{url}/v1/extract", json=body, timeout=60, trust_env=False)
            except httpx.TransportError:
                # The connection was not taken any more.
                return
            answers[reply.status_code] += 1

    captures = tmp_path / "captures"
    words = ("--capture", str(captures))
    with RunningExpert(package_master, tmp_path / "log", *words, SEM_SERVE_KEYS="") as running:
        clients = [threading.Thread(target=ask_on, args=(running.url,)) for _ in range(8)]
        for client in clients:
            client.start()
        wait_for(lambda: answers[200] > 8, 60)
        code = running.end()
        over.set()
        for client in clients:
            client.join(60)
        ended = running.lines[-1]

    assert code == 0
    assert ended["event"] == "ended"
    assert ended["accepted"] == ended["answered"] == answers[200]
    assert set(answers) == {200}
    (path,) = captures.glob("*.jsonl")
    assert sum(1 for _ in files.read_rows(path)) == answers[200]


# Captures.


def rows_to_import(expert, path) -> list:
    wanted, refused = ImportOptions(), []
    reporter = ReadReporter(lambda name, reason: refused.append(reason), lambda text: None)
    with importers.read_source_rows(expert.contract.tasks, path, wanted, reporter) as placed:
        rows = [importers.name_row(row) for _, row in placed]
    assert refused == []
    return rows


def test_captures_are_read_by_the_import_with_the_answer_as_metadata(expert, tmp_path) -> None:
    folder = tmp_path / "captures"
    with ServedExpert(GatedExpert(expert), capture=folder).until_ready() as served:
        answer = served.post("/v1/extract", html=PAGE, url="https://a.example/x").json()
        served.post("/v1/extract", html="")
        served.post("/v1/extract", html=PAGE)
    (path,) = folder.glob("*.jsonl")
    row, again = rows_to_import(expert, path)
    meta = json.loads(row.metadata)

    # A page that came twice was a conflict of two times under one id.
    assert again.id != row.id
    assert (row.input_text, row.task, row.reference) == (PAGE, "price", None)
    assert (meta["answer"], meta["url"]) == (answer["value"], "https://a.example/x")
    assert meta["confidence"] == pytest.approx(answer["confidence"], abs=1e-4)
    assert meta["capture"]["model_name"] == "run1"
    assert meta["capture"]["output_tokens"] == answer["tokens_out"]
    assert folder.stat().st_mode & 0o077 == 0


def test_an_answer_is_a_reference_only_when_that_is_asked_for(expert, tmp_path) -> None:
    settings = {"capture": tmp_path, "capture_references": True}
    with ServedExpert(GatedExpert(expert), **settings).until_ready() as served:
        answer = served.post("/v1/extract", html=PAGE).json()
    (row,) = rows_to_import(expert, next(tmp_path.glob("*.jsonl")))

    assert json.loads(row.reference) == answer["value"]


def test_captures_begin_a_new_file_and_end_where_the_folder_is_full(expert, tmp_path) -> None:
    settings = {"capture": tmp_path, "capture_mib": 1, "capture_files": 2}
    # Half a megabyte that cleaning takes away.
    page = f"<p>Mug 2.50</p><!-- {'x' * 600_000} -->"
    with ServedExpert(GatedExpert(expert), **settings).until_ready() as served:
        replies = [served.post("/v1/extract", html=page).status_code for _ in range(6)]
        lost = served.total("not_captured")

    assert replies == [200] * 6
    assert [sum(1 for _ in files.read_rows(path)) for path in sorted(tmp_path.iterdir())] == [2, 2]
    assert lost == 2


def test_a_disk_that_fails_costs_no_answer(expert, tmp_path, monkeypatch) -> None:
    def fail(path):
        raise OSError(28, "No space left on device")

    with ServedExpert(GatedExpert(expert), capture=tmp_path).until_ready() as served:
        monkeypatch.setattr(files, "open_for_append", fail)
        reply = served.post("/v1/extract", html=PAGE)
        lost = served.total("not_captured")

    assert (reply.status_code, lost) == (200, 1)


def test_a_folder_that_cannot_hold_captures_is_one_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SemError, match="cannot hold captures"):
        CaptureFolder(tmp_path / "file", "run1", ExpertSettings())


# Settings and keys.


def test_flags_win_over_settings_and_what_cannot_be_is_refused() -> None:
    settings = expert_settings(["serve.max_waiting=9", "serve.port=1"], {"port": 2, "host": None})

    assert (settings.max_waiting, settings.port, settings.host) == (9, 2, "127.0.0.1")
    for pair, words in (
        ("serve.max_waitin=9", "unknown key 'max_waitin'"),
        ("serve.max_batch=0", "max_batch: 0"),
        ("train.epochs=1", "not a key of serve.yaml"),
    ):
        with pytest.raises(SemError, match=words):
            expert_settings([pair], {})


def test_a_server_open_to_others_asks_for_keys(monkeypatch) -> None:
    monkeypatch.setenv(KEYS, f"{'a' * 20} , {'b' * 20}")
    assert read_server_keys(ExpertSettings(), KEYS) == ("a" * 20, "b" * 20)
    monkeypatch.setenv(KEYS, f"{'a' * 20},short")
    with pytest.raises(SemError, match="SEM_SERVE_KEYS has 5 characters"):
        read_server_keys(ExpertSettings(), KEYS)
    monkeypatch.delenv(KEYS)
    with pytest.raises(SemError, match=r"host '0\.0\.0\.0' is open to other machines"):
        read_server_keys(ExpertSettings(host="0.0.0.0"), KEYS)
