"""A package asked over HTTP: each route, each refusal's status, by curl's means and OpenAI's."""

import socket

import openai
import pytest
from experts import GatedExpert, ServedExpert, wait_for
from paths import ROOT

from sem import Expert
from sem.core import jsonio
from sem.package.serve import expert as experts
from sem.package.serve.expert import Extraction, Refusal
from sem.package.serve.http import service as services

PAGE = "<html><body><h1>Red mug</h1><p class=price>12.50</p></body></html>"
KEY, OTHER_KEY = "k" * 24, "o" * 24


@pytest.fixture(scope="module")
def expert(package_master):
    with Expert.load(package_master, verify=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def served(expert):
    with ServedExpert(GatedExpert(expert), read_timeout_s=3) as running:
        yield running.until_ready()


@pytest.fixture(scope="module")
def locked(expert):
    with ServedExpert(GatedExpert(expert), (OTHER_KEY, KEY)) as running:
        yield running.until_ready()


@pytest.fixture(scope="module")
def client(served):
    # A proxy of the environment is not for this machine.
    with openai.OpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, http_client=served.http
    ) as opened:
        yield opened


def chat(client, content=PAGE, model="price", **more):
    messages = [
        {"role": "system", "content": "not this one"},
        {"role": "user", "content": "an earlier page"},
        {"role": "assistant", "content": "{}"},
        {"role": "user", "content": content},
    ]
    return client.chat.completions.create(model=model, messages=messages, **more)


def without_time(body: dict) -> dict:
    return {name: value for name, value in body.items() if name != "seconds"}


@pytest.mark.parametrize("field", ["html", "text"])
def test_a_page_is_answered_as_by_python(served, expert, field) -> None:
    reply = served.post("/v1/extract", **{field: PAGE}, task="price")

    assert reply.status_code == 200
    assert without_time(reply.json()) == without_time(expert.extract(PAGE).as_json())
    assert reply.headers["x-request-id"]


def test_the_only_task_need_not_be_named_and_the_page_is_shown_on_request(served) -> None:
    reply = served.post("/v1/extract", html=PAGE, show_page=True).json()

    assert reply["task"] == "price"
    assert "Red mug" in reply["page"]
    assert "page" not in served.post("/v1/extract", html=PAGE).json()


REFUSED = {
    "an unknown task": ({"html": PAGE, "task": "prise"}, 404, "unknown_task"),
    "an empty page": ({"html": ""}, 422, "no_input"),
    "an image": ({"html": "\x89PNG\r\n\x1a\n\0\0\0\rIHDR"}, 422, "not_text"),
    "only code": ({"html": "<html><script>var a;</script></html>"}, 422, "empty_input"),
    "6 MB": ({"html": "<p>x</p>" * 750_000}, 413, "page_size"),
    "nesting": ({"html": "<div>" * 50_000 + "x"}, 422, "page_depth"),
    "a long page": ({"html": "<p>word and word </p>" * 4_000}, 422, "prompt_too_long"),
    "no page": ({"task": "price"}, 422, "invalid"),
    "two pages": ({"html": PAGE, "text": PAGE}, 422, "invalid"),
    "a number": ({"html": 1}, 422, "invalid"),
    "an unknown field": ({"html": PAGE, "tsak": "price"}, 422, "invalid"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_has_its_status_and_reason(served, case) -> None:
    body, status, reason = REFUSED[case]
    reply = served.post("/v1/extract", **body)

    assert (reply.status_code, reply.json()["reason"]) == (status, reason)
    assert reply.json()["error"]["code"] == reason
    assert reply.json()["error"]["message"] == reply.json()["detail"]
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    if reason in experts.REASONS:
        assert reply.json()["refusal"] == {"reason": reason, "message": reply.json()["detail"]}
        assert reply.json()["value"] is None


def test_every_reason_has_a_status_and_no_bad_page_is_a_fault_of_the_server() -> None:
    statuses = {
        reason: services.refusal_error(Extraction("t", refusal=Refusal(reason))).status
        for reason in experts.REASONS
    }

    assert {reason for reason, status in statuses.items() if status >= 500} == {
        "page_timeout",
        "engine_failed",
    }
    assert services.STATUSES.keys() <= experts.REASONS.keys()


def test_the_page_on_asking_lists_every_reason_with_its_status() -> None:
    text = (ROOT / "docs" / "asking.md").read_text("utf-8")
    for reason, words in experts.REASONS.items():
        status = services.STATUSES.get(reason, services.PAGE_AT_FAULT)

        assert f"| `{reason}` | {status} | {words} |" in text


BODIES = {
    "empty": (b"", 400),
    "no JSON": (b"{", 400),
    "binary": (b"\xff\xfe\x00\x01", 400),
    "half a surrogate": (b'{"html":"\\ud800"}', 400),
    "deep": (b"[" * 30_000, 400),
    "NaN": (b'{"html":NaN}', 400),
    "twice": (b'{"html":"a","html":"b"}', 400),
    "a list": (b"[]", 422),
    "null": (b"null", 422),
}


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("path", ["/v1/extract", "/v1/chat/completions"])
def test_a_body_that_is_no_request_is_refused(served, path, case) -> None:
    content, status = BODIES[case]
    headers = {"content-type": "application/json"}
    reply = served.http.post(path, content=content, headers=headers)

    assert reply.status_code == status
    assert {"detail", "reason", "request_id", "error"} <= reply.json().keys()


def test_json_that_is_not_called_json_is_refused(served) -> None:
    # What a page elsewhere can send without asking the browser for permission.
    headers = {"content-type": "text/plain"}
    reply = served.http.post("/v1/extract", content=b'{"html":"a"}', headers=headers)

    assert (reply.status_code, reply.json()["reason"]) == (415, "not_json")


CHUNK = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 50000000\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\n" + 17 * CHUNK],
    ids=["declared", "chunked"],
)
def test_50_mb_are_refused_before_they_are_read_whole(served, body) -> None:
    head = b"POST /v1/extract HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        connection.sendall(head + body)
        reply = b""
        while part := connection.recv(65_536):
            reply += part

    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b'"reason":"body_too_long"' in reply


def test_a_key_of_several_is_asked_for_where_there_are_some(locked) -> None:
    def ask(**headers: str) -> int:
        return locked.http.post("/v1/extract", json={"html": PAGE}, headers=headers).status_code

    assert [ask(), ask(authorization="Bearer " + "x" * 24)] == [401, 401]
    assert [ask(authorization=f"Bearer {KEY}"), ask(**{"x-api-key": OTHER_KEY})] == [200, 200]
    asked = {path: locked.http.get(path).status_code for path in ("/v1/models", "/metrics")}
    assert asked == {"/v1/models": 401, "/metrics": 401}
    assert {locked.http.get(path).status_code for path in ("/", "/health", "/ready")} == {200}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_another_host_and_a_page_of_another_address_are_refused(served, headers, status) -> None:
    reply = served.http.post("/v1/extract", json={"html": PAGE}, headers=headers)

    assert reply.status_code == status
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_no_route_and_no_method_are_in_the_same_form(served) -> None:
    replies = [served.http.get("/v1/extract"), served.http.get("/nothing")]

    assert [reply.status_code for reply in replies] == [405, 404]
    assert all(reply.json()["error"]["code"] == "http" for reply in replies)


# The OpenAI client.


def test_the_openai_client_gets_the_answer_its_usage_and_confidence(client, expert) -> None:
    completion = chat(client, temperature=1.5, max_tokens=3)
    extraction = expert.extract(PAGE)

    assert completion.choices[0].message.content == jsonio.canonical_json(extraction.value)
    assert completion.choices[0].finish_reason in ("stop", "length")
    assert completion.model == "price"
    assert completion.usage.prompt_tokens == extraction.tokens_in
    assert completion.usage.completion_tokens == extraction.tokens_out
    assert without_time(completion.model_extra["sem"]) == without_time(extraction.as_json())


def test_a_stream_adds_up_to_the_answer(client) -> None:
    whole = chat(client).choices[0].message.content
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]

    assert "".join(deltas) == whole
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    assert chunks[-1].usage.total_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_tasks_are_models(client) -> None:
    assert [model.id for model in client.models.list()] == ["price"]
    assert client.models.retrieve("price").owned_by == "run1"
    with pytest.raises(openai.NotFoundError, match="the tasks of this package are price"):
        client.models.retrieve("gpt-4")


def test_parts_of_text_are_one_page(client) -> None:
    parts = [{"type": "text", "text": text} for text in (PAGE[:20], PAGE[20:])]

    assert chat(client, parts).choices == chat(client).choices


OPENAI_REFUSED = {
    "no task": ({"model": "gpt-4"}, openai.NotFoundError, "unknown_task"),
    "an image": (
        {"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        openai.UnprocessableEntityError,
        "not_text",
    ),
    "an empty page": ({"content": ""}, openai.UnprocessableEntityError, "no_input"),
    "two answers": ({"n": 2}, openai.UnprocessableEntityError, "not_supported"),
    "another schema": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "string"}},
            }
        },
        openai.UnprocessableEntityError,
        "not_supported",
    ),
}


@pytest.mark.parametrize("case", OPENAI_REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_client_raises_its_own_error(client, case, stream) -> None:
    request, kind, code = OPENAI_REFUSED[case]
    with pytest.raises(kind) as caught:
        chat(client, **request, stream=stream)

    assert caught.value.code == code


def test_the_own_schema_may_be_asked_for(client, expert) -> None:
    described = {"name": "price", "schema": expert.contract.task("price").io_schema}
    completion = chat(client, response_format={"type": "json_schema", "json_schema": described})

    assert completion.choices == chat(client).choices


# Health, metrics, the page.


def test_health_is_life_and_ready_is_an_answer(served, monkeypatch) -> None:
    assert served.http.get("/health").json() == {"status": "healthy", "waiting": 0}
    ready = served.http.get("/ready").json()
    assert (ready["ready"], ready["tasks"], ready["engine"]) == (True, ["price"], "transformers")

    def die(prompts):
        raise RuntimeError("out of /secret/memory")

    with monkeypatch.context() as patch:
        patch.setattr(served.service.expert.engine, "generate", die)
        reply = served.post("/v1/extract", html=PAGE)
        dead = served.http.get("/ready")
    assert (reply.status_code, reply.json()["reason"]) == (503, "engine_failed")
    assert "secret" not in reply.text
    assert reply.headers["retry-after"] == "5"
    assert (dead.status_code, dead.json()["fault"]) == (
        503,
        "the engine failed on the latest page",
    )
    # Whoever watches /ready has the first page asked again.
    wait_for(lambda: served.http.get("/ready").status_code == 200)


def test_a_first_request_that_breaks_the_schema_is_not_ready(expert, monkeypatch) -> None:
    gated = GatedExpert(expert)
    refused = Extraction("price", refusal=Refusal("breaks_schema"))
    monkeypatch.setattr(gated, "extract_many", lambda questions: [refused] * len(questions))
    with ServedExpert(gated) as running:
        wait_for(lambda: "breaks_schema" in running.http.get("/ready").text)
        reply = running.http.get("/ready")

        assert (reply.status_code, reply.json()["ready"]) == (503, False)
        assert running.http.get("/health").status_code == 200


def test_metrics_count_pages_tokens_and_reasons(served) -> None:
    served.post("/v1/extract", html=PAGE)
    served.post("/v1/extract", html="")
    served.http.get("/nobody/made/this/route")
    text = served.http.get("/metrics").text

    assert 'sem_expert_requests_total{route="/v1/extract",status="200"}' in text
    assert 'sem_expert_refused_total{reason="no_input"}' in text
    assert 'sem_expert_tokens_total{side="out"}' in text
    assert "sem_expert_batch_pages_bucket" in text
    assert "nobody" not in text


def test_the_page_is_served_under_a_strict_policy(served) -> None:
    replies = {path: served.http.get(path) for path in ("/", "/page.css", "/page.js")}

    assert {reply.status_code for reply in replies.values()} == {200}
    assert "<script src=" in replies["/"].text
    assert "<style" not in replies["/"].text
    for reply in replies.values():
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in policy
