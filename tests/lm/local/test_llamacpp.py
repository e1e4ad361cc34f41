"""llama.cpp in this process: on this machine only, deaf to web pages, replies of the schema."""

import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
import tinygguf

from sem.core.errors import SemError
from sem.lm.api.calls import ChatRequest
from sem.lm.api.client import Client
from sem.lm.api.provider import Calls, Price, Provider
from sem.lm.local import llamacpp

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "count"],
    "properties": {
        "kind": {"enum": ["short", "long"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("xllamacpp")
    path = tinygguf.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")
    return llamacpp.Server(llamacpp.Serving(path, port=0, context=512, threads=1))


def client(server, folder, json_mode) -> Client:
    asked = Provider(
        "openai/local", api_base=server.address, price=Price(0, 0), json_mode=json_mode
    )
    return Client(Calls((asked,), tries=1, workers=1), folder, "test", datetime.now(UTC))


def test_a_reply_is_held_to_the_schema_of_its_request(server, tmp_path):
    asked = [
        ChatRequest((("user", f"AB {number}"),), SCHEMA, max_tokens=200, temperature=1.0)
        for number in range(8)
    ]
    found = [outcome for _, outcome in client(server, tmp_path, "schema").ask_all(asked)]

    assert [outcome.fault for outcome in found] == [None] * 8
    assert {type(outcome.value["count"]) for outcome in found} == {int}


def test_without_a_schema_a_random_model_writes_no_json(server, tmp_path):
    # The counter-example: what the test above shows is the schema's doing, not the model's.
    request = ChatRequest((("user", "AB"),), SCHEMA, max_tokens=50, reasks=0)

    assert client(server, tmp_path, False).ask(request).fault in ("invalid_json", "length")


def test_it_listens_on_this_machine_and_allows_no_page_of_another(server):
    assert server.address.startswith("http://127.0.0.1:")
    request = urllib.request.Request(f"{server.address}/models", headers={"Origin": "http://e.x"})
    with urllib.request.urlopen(request) as reply:
        assert reply.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1"
        assert reply.headers["Access-Control-Allow-Credentials"] is None


@pytest.mark.parametrize("page", ["slots", "metrics", ""])
def test_it_shows_nobodys_prompts_and_has_no_pages(server, page):
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(server.address.removesuffix("v1") + page)


def test_a_port_that_is_taken_is_named(server, tmp_path):
    port = int(server.address.split(":")[2].removesuffix("/v1"))
    path = tinygguf.write(tmp_path / "other.gguf")

    with pytest.raises(SemError) as caught:
        llamacpp.Server(llamacpp.Serving(path, port=port, context=256, threads=1))

    assert f"if port {port} is taken" in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"port": 70_000}, {"context": 10}, {"slots": 0}, {"threads": 0}, {"port": -1}]
)
def test_what_cannot_be_served_is_refused(tmp_path, wrong):
    with pytest.raises(SemError):
        llamacpp.Serving(tmp_path / "x.gguf", **wrong)


def test_without_the_package_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    with pytest.raises(SemError) as caught:
        llamacpp.Server(llamacpp.Serving(tmp_path / "x.gguf"))

    assert str(caught.value) == (
        "the local server needs xllamacpp, which is not installed\n"
        "       pip install 'opensem[local]', or name another server as the teacher's api_base"
    )
