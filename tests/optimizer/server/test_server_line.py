"""The line before the network: bounded, in batches, nobody served who has left or is late."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from rewriters import Gated, Served, load, make_optimizer
from toy import make_t5

from sem.optimizer.server import network


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> network.Network:
    made = tmp_path_factory.mktemp("tree")
    make_optimizer(made, make_t5(made / "t5"))
    return load(made)


@pytest.fixture
def gated(real) -> Gated:
    return Gated(real.rewriter)


@pytest.fixture
def serve(real, gated, tmp_path: Path):
    """A function that serves `gated` with some settings, and closes its gate."""
    running = []

    def start(**settings) -> Served:
        loaded = network.Network(real.name, real.base, gated, real.calibration)
        running.append(Served(tmp_path, lambda: loaded, **settings).until_loaded())
        gated.batches.clear()
        gated.entered.clear()
        gated.gate.clear()
        return running[0]

    yield start
    gated.gate.set()
    for each in running:
        each.__exit__(None, None, None)


def ask(served: Served, prompt: str, **more) -> httpx.Response:
    body = {"raw_prompt": prompt, "max_length": 6, "temperature": 0} | more
    return served.post("/optimize", **body)


def wait_for(claim, within_s: float = 15) -> None:
    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_beyond_the_bound_a_prompt_gets_429_and_nobody_in_line_suffers(serve, gated):
    served = serve(max_waiting=4, max_prompts=3, max_batch=4)
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        waiting = [pool.submit(ask, served, f"w{n}") for n in range(4)]
        wait_for(lambda: len(served.service.line) == 4)
        refused = [ask(served, "one more"), served.post("/optimize/batch", prompts=["a", "b"])]
        health = served.http.get("/health")
        gated.gate.set()
        done = [each.result() for each in (first, *waiting)]

    assert [r.status_code for r in refused] == [429, 429]
    assert refused[0].json()["detail"] == "4 prompts are waiting; try again"
    assert refused[0].headers["retry-after"] == "1"
    # Answered while the network was busy.
    assert health.json()["waiting"] == 4
    assert [r.status_code for r in done] == [200] * 5


def test_alike_requests_are_decoded_together_and_others_are_not(serve, gated):
    served = serve(max_batch=3)
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        waiting = []
        for number in range(4):
            waiting.append(pool.submit(ask, served, f"a{number}"))
            wait_for(lambda number=number: len(served.service.line) == number + 1)
        waiting.append(pool.submit(ask, served, "longer", max_length=7))
        wait_for(lambda: len(served.service.line) == 5)
        gated.gate.set()
        assert {each.result().status_code for each in (first, *waiting)} == {200}

    assert gated.batches == [["first"], ["a0", "a1", "a2"], ["a3"], ["longer"]]


def test_a_client_that_left_is_not_decoded(serve, gated):
    served = serve()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, served, "first")
        assert gated.entered.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{served.http.base_url}/optimize",
                json={"raw_prompt": "left", "max_length": 6, "temperature": 0},
                timeout=0.3,
                trust_env=False,
            )
        left = served.service.metrics.refused.labels("client_left")._value.get
        wait_for(lambda: left() == 1)
        gated.gate.set()
        assert first.result().status_code == 200
        assert ask(served, "after").status_code == 200

    assert gated.batches == [["first"], ["after"]]


def test_a_stream_that_was_left_ends_early(serve, gated):
    served = serve()
    with (
        httpx.Client(base_url=served.http.base_url, timeout=0.3, trust_env=False) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.post("/optimize", json={"raw_prompt": "left", "stream": True, "temperature": 0})
    gated.gate.set()
    wait_for(lambda: len(served.service.line) == 0)

    assert ask(served, "after").status_code == 200
    assert served.service.metrics.tokens.labels("out")._value.get() == 6  # of the second alone


def test_no_answer_in_time_is_503_and_the_late_one_is_passed_over(serve, gated):
    served = serve(timeout_s=0.4)
    with ThreadPoolExecutor(4) as pool:
        both = [pool.submit(ask, served, "first")]
        assert gated.entered.wait(10)
        both.append(pool.submit(ask, served, "second"))
        replies = [each.result() for each in both]
    gated.gate.set()
    assert ask(served, "third").status_code == 200

    assert [r.status_code for r in replies] == [503, 503]
    assert replies[0].json()["detail"] == "no answer within 0.4 s; try again"
    assert replies[0].headers["retry-after"] == "2"
    assert gated.batches == [["first"], ["third"]]


def test_a_network_that_fails_is_503_without_its_words_and_goes_on(serve, gated):
    served = serve()
    gated.gate.set()
    reply = ask(served, "BOOM")
    streamed = ask(served, "BOOM", stream=True)

    assert (reply.status_code, reply.json()["reason"]) == (503, "network_failed")
    assert "secret" not in reply.text + streamed.text
    assert streamed.text.startswith("event: error\ndata: ")
    assert ask(served, "after").status_code == 200


def test_ending_answers_who_was_accepted_and_takes_nobody_new(serve, gated):
    served = serve()
    with ThreadPoolExecutor(16) as pool:
        accepted = [pool.submit(ask, served, "first")]
        assert gated.entered.wait(10)
        accepted += [pool.submit(ask, served, f"w{n}") for n in range(6)]
        wait_for(lambda: len(served.service.line) == 6)
        ending = threading.Thread(target=served.end)
        ending.start()
        wait_for(lambda: not served.server.servers[0].sockets)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.http.base_url}/health", trust_env=False)
        gated.gate.set()
        replies = [each.result() for each in accepted]
        ending.join(30)

    assert [r.status_code for r in replies] == [200] * 7
    assert not ending.is_alive()


def test_an_empty_line_waits_for_company_only_briefly(serve, gated):
    served = serve(max_wait_ms=300, max_batch=2)
    gated.gate.set()

    async def both() -> None:
        async with httpx.AsyncClient(base_url=served.http.base_url, trust_env=False) as client:
            body = {"max_length": 6, "temperature": 0}
            asked = (client.post("/optimize", json=body | {"raw_prompt": p}) for p in "ab")
            await asyncio.gather(*asked)

    asyncio.run(both())
    assert sorted(gated.batches[0]) == ["a", "b"]
