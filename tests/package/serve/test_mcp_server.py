"""An expert as tools of an agent: by the SDK's own client, over a real process and real HTTP."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from functools import partial

import httpx
import pytest
from chatserver import ChatServer
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from paths import ROOT

from sem import Expert
from sem.core import jsonio
from sem.jobs.serving import _project_status
from sem.lm.server import process
from sem.lm.server.metrics import Metrics
from sem.package.serve import mcp_server
from sem.package.serve.http.settings import ExpertSettings
from sem.package.serve.mcp_server import ExpertTools

PAGE = "<html><body><h1>Red mug</h1><p class=price>12.50</p></body></html>"
KEY = "k" * 24
CALLS = {
    "html": ("extract", {"html": PAGE}),
    "file": ("extract", {"file": "shop/mug.html", "task": "price"}),
    "status": ("status", {}),
    "report": ("report", {}),
    "no arguments": ("extract", {}),
    "two pages": ("extract", {"html": PAGE, "file": "shop/mug.html"}),
    "a number": ("extract", {"html": 1}),
    "an unknown field": ("extract", {"html": PAGE, "tsak": "price"}),
    "an unknown task": ("extract", {"html": PAGE, "task": "prise"}),
    "an unknown tool": ("extrakt", {"html": PAGE}),
    "an empty page": ("extract", {"html": ""}),
    "binary": ("extract", {"html": "\x89PNG\r\n\x1a\n\0\0\0\rIHDR"}),
    "a binary file": ("extract", {"file": "image.png"}),
    "50 MB": ("extract", {"html": "<p>x</p>" * 6_500_000}),
    "a file of 50 MB": ("extract", {"file": "huge.html"}),
    "a file outside": ("extract", {"file": "../secret.html"}),
    "an absolute path": ("extract", {"file": "/etc/passwd"}),
    "a link outside": ("extract", {"file": "link.html"}),
    "a folder": ("extract", {"file": "shop"}),
    "a name with NUL": ("extract", {"file": "a\0b"}),
    "html again": ("extract", {"html": PAGE}),
}
REASONS = {
    "no arguments": "invalid",
    "two pages": "invalid",
    "a number": "invalid",
    "an unknown field": "invalid",
    "an unknown task": "unknown_task",
    "an unknown tool": "unknown_tool",
    "an empty page": "no_input",
    "binary": "not_text",
    "a binary file": "not_text",
    "50 MB": "page_size",
    "a file of 50 MB": "page_size",
    "a file outside": "no_page",
    "an absolute path": "no_page",
    "a link outside": "no_page",
    "a folder": "no_page",
    "a name with NUL": "no_page",
}


@pytest.fixture(scope="module")
def expert(package_master):
    with Expert.load(package_master, verify=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent") / "pages"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "mug.html").write_text(PAGE)
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "huge.html").write_text("<p>x</p>" * 6_500_000)
    (folder.parent / "secret.html").write_text("<p>secret</p>")
    (folder / "link.html").symlink_to(folder.parent / "secret.html")
    return folder


def command(package, *words) -> list[str]:
    return [sys.executable, "-m", "sem", "mcp", "--path", str(package), *words]


ENVIRONMENT = {"PYTHONPATH": str(ROOT), "SEM_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def replies(package_master, pages, tmp_path_factory):
    """Return the tools, and the answer to each of CALLS, of one process asked one after other."""
    program, *words = command(package_master, "--pages", str(pages))
    folder = str(tmp_path_factory.mktemp("elsewhere"))
    started = StdioServerParameters(command=program, args=words, env=ENVIRONMENT, cwd=folder)

    async def ask() -> dict:
        async with Client(started, read_timeout_seconds=120) as client:
            tools = await client.list_tools()
            answers = {case: await client.call_tool(*call) for case, call in CALLS.items()}
            return {"tools": tools.tools} | answers

    return asyncio.run(ask())


def without_time(body: dict) -> dict:
    return {name: value for name, value in body.items() if name != "seconds"}


def test_an_agent_sees_three_tools_and_the_tasks(replies) -> None:
    by_name = {tool.name: tool for tool in replies["tools"]}

    assert list(by_name) == ["extract", "status", "report"]
    assert "Tasks: price" in by_name["extract"].description


@pytest.mark.parametrize("case", ["html", "file", "html again"])
def test_a_page_is_answered_as_by_python(replies, expert, case) -> None:
    result = replies[case]

    assert not result.is_error
    assert without_time(result.structured_content) == without_time(expert.extract(PAGE).as_json())
    assert json.loads(result.content[0].text) == result.structured_content


def test_status_and_report_are_the_packages(replies, package_master) -> None:
    status, report = replies["status"].structured_content, replies["report"]

    assert (status["package"], status["tasks"]) == (package_master.name, ["price"])
    assert (status["engine"], status["sem"]) == ("transformers", "toy")
    assert report.content[0].text == (package_master / "eval_report.md").read_text()


@pytest.mark.parametrize("case", REASONS)
def test_a_wrong_call_is_one_typed_answer_and_the_server_stays_up(replies, case) -> None:
    result = replies[case]

    assert result.is_error
    assert result.structured_content["refusal"]["reason"] == REASONS[case]
    assert "secret" not in result.content[0].text


def test_the_status_of_a_project_stands_beside_it(expert, package_master, monkeypatch) -> None:
    monkeypatch.setenv("SEM_ROOT", str(package_master.parents[3]))
    tools = ExpertTools(expert, package_master, None, partial(_project_status, "toy"))
    answer, is_error = tools.call("status", {})

    assert not is_error
    assert (answer["project"]["sem"], answer["project"]["packages"]) == ("toy", "1")


def test_without_a_folder_no_file_is_read(expert, package_master) -> None:
    answer, is_error = ExpertTools(expert, package_master).call("extract", {"file": "/etc/passwd"})

    assert (answer["refusal"]["reason"], is_error) == ("no_pages_folder", True)


def test_a_fault_of_the_engine_shows_no_path(expert, package_master, monkeypatch) -> None:
    def die(prompts):
        raise RuntimeError("out of /secret/memory")

    monkeypatch.setattr(expert.engine, "generate", die)
    answer, is_error = ExpertTools(expert, package_master).call("extract", {"html": PAGE})

    assert (answer["refusal"]["reason"], is_error) == ("engine_failed", True)
    assert "secret" not in json.dumps(answer)


def test_stdout_holds_the_protocol_and_nothing_else(package_master, tmp_path) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
    hello["clientInfo"] = {"name": "t", "version": "1"}
    call = {"name": "extract", "arguments": {"html": PAGE}}
    requests = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "no/such", "params": {}},
        {"id": 3, "method": "tools/call", "params": call},
    ]
    messages = [jsonio.canonical_json({"jsonrpc": "2.0"} | request) for request in requests]
    lines = ["not JSON at all", "[1, 2", *messages]
    running = subprocess.Popen(
        command(package_master),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "log").open("wb"),
        env=os.environ | ENVIRONMENT,
        cwd=tmp_path,
    )
    assert running.stdin
    assert running.stdout
    running.stdin.write("".join(line + "\n" for line in lines).encode())
    running.stdin.flush()
    answers = [json.loads(running.stdout.readline()) for _ in range(3)]
    running.stdin.close()
    rest = running.stdout.read()
    running.stdout.close()

    assert {answer.get("id") for answer in answers} == {1, 2, 3}
    assert all(answer["jsonrpc"] == "2.0" for answer in answers)
    assert rest == b""
    assert running.wait(30) == 0


@pytest.mark.parametrize("words", [["--pages", "absent"], ["--engine", "llamacpp"]])
def test_what_cannot_start_ends_with_one_line(package_master, tmp_path, words) -> None:
    ended = subprocess.run(
        command(package_master, *words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | ENVIRONMENT,
        cwd=tmp_path,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: ")


# Over HTTP.


@pytest.fixture(scope="module")
def address(expert, package_master):
    """Return where the tools are served over HTTP, with a key, in a thread of this process."""
    settings = ExpertSettings(port=0, max_body_bytes=1 << 20)
    app = mcp_server.build_mcp_app(
        ExpertTools(expert, package_master), settings, (KEY,), Metrics("mcp_test", "pages")
    )
    listener = process.open_listener(settings)
    server = process.http_server(settings, app)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield process.listener_url(listener) + mcp_server.MCP_PATH
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def test_http_answers_behind_the_guard(address, expert) -> None:
    async def ask(html: str) -> object:
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            httpx.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            return await client.call_tool("extract", {"html": html})

    result = asyncio.run(ask(PAGE))

    assert without_time(result.structured_content) == without_time(expert.extract(PAGE).as_json())


GUARDED = {
    "no key": ({"authorization": ""}, b"{}", 401),
    "another host": ({"host": "evil.example"}, b"{}", 400),
    "a foreign page": ({"origin": "https://evil.example"}, b"{}", 403),
    "too long": ({}, b"x" * (2 << 20), 413),
    "no JSON": ({}, b"{", 400),
}


@pytest.mark.parametrize("case", GUARDED)
def test_http_refuses_what_the_guard_refuses(address, case) -> None:
    headers, body, status = GUARDED[case]
    sent = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    sent["accept"] = "application/json, text/event-stream"
    reply = httpx.post(address, content=body, headers=sent | headers, trust_env=False)

    assert reply.status_code == status


def test_the_strong_model_stands_behind_the_tools_too(package_master, tmp_path) -> None:
    path = tmp_path / "fallback.yaml"
    with ChatServer(lambda body, number: '{"title":"Red mug","price":12.5}') as server:
        lines = [f"model: {{model: openai/strong, api_base: '{server.url}'}}", "below: 1.0"]
        path.write_text("\n".join([*lines, f"ledger: {tmp_path / 'ledger'}"]) + "\n")
        with Expert.load(package_master, verify=False, fallback=path) as expert:
            tools = ExpertTools(expert, package_master)
            answer, _ = tools.call("extract", {"html": PAGE})
            status, _ = tools.call("status", {})

    assert answer["fallback"]["status"] == "used"
    assert status["fallback_tokens_left"] == 10_000_000 - 50
