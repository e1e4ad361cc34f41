"""An expert as tools of an agent, by the Model Context Protocol: extract, status, report.

    {"mcpServers": {"shop": {"command": "opensem", "args": ["mcp", "--sem", "shop"]}}}

On stdio stdout holds the protocol and nothing else; over HTTP the guard of every server here
stands before it. What cannot be answered is a result marked as an error, with a reason; a call
that is wrong never ends the server.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem import __version__
from sem.core import files, jsonio, schema
from sem.lm.server import process, routes
from sem.lm.server.guard import GuardRules
from sem.lm.server.metrics import Metrics
from sem.lm.server.refusal import RequestRefusalError, queue_full_refusal
from sem.lm.server.settings import HttpSettings
from sem.package.serve.expert import Expert, Refusal

MCP_PATH = "/mcp"
# Of the report, as text for a model to read.
MAX_REPORT_CHARS = 100_000
EXTRACT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "html": {"type": "string", "description": "the page, HTML or text"},
        "file": {
            "type": "string",
            "maxLength": 1_024,
            "description": "instead of html: a file of the page, below the folder of pages",
        },
        "task": {"type": ["string", "null"], "maxLength": 200},
        "url": {"type": ["string", "null"], "maxLength": 4_096},
        "page_type": {"type": ["string", "null"], "maxLength": 200},
    },
}
NOTHING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {},
}


class ToolRefusalError(Exception):
    """A call that cannot be done, as an agent reads it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.body = {"refusal": {"reason": reason, "message": message}}


@dataclass(frozen=True)
class ExpertTools:
    """What an agent may call; safe for threads."""

    expert: Expert
    # Of the package.
    folder: Path
    # Pages named by `file` lie below it; None: no file is read.
    pages: Path | None = None
    # What the project has, where there is one.
    project_status: Callable[[], dict[str, Any]] | None = None

    def describe(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return name, description and schema of the arguments of every tool."""
        tasks = ", ".join(sorted(self.expert.contract.tasks))
        extract = (
            f"Read a web page into checked JSON. Tasks: {tasks}. Each value comes with its "
            "confidence and whether the page holds it; a page that cannot be answered is refused "
            "with a reason."
        )
        status = "What this expert is: package, tasks, engine, and the state of its project."
        report = "The report of its evaluation on held-out pages, as Markdown."
        return [
            ("extract", extract, EXTRACT_SCHEMA),
            ("status", status, NOTHING_SCHEMA),
            ("report", report, NOTHING_SCHEMA),
        ]

    def call(self, name: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return what the tool `name` answers to `arguments`, and whether that is an error."""
        expected = {tool: form for tool, _, form in self.describe()}
        try:
            if name not in expected:
                raise ToolRefusalError("unknown_tool", f"the tools are {', '.join(expected)}")
            if problems := schema.schema_problems(arguments, expected[name], limit=1):
                raise ToolRefusalError("invalid", problems[0][:200])
            answer = getattr(self, name)(arguments)
        except ToolRefusalError as error:
            return error.body, True
        return answer, bool(answer.get("refusal"))

    def extract(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return `Extraction.as_json()` of one page."""
        if ("html" in arguments) == ("file" in arguments):
            raise ToolRefusalError("invalid", "send the page as either html or file")
        page = arguments["html"] if "html" in arguments else self._read_page(arguments["file"])
        where = [arguments.get(name) for name in ("task", "url", "page_type")]
        extraction = self.expert.extract(page, *where)
        answer = extraction.as_json()
        if extraction.refusal and extraction.refusal.reason == "engine_failed":
            # The engine's own words may hold paths.
            logging.getLogger("sem.serve").error(
                "engine_failed", extra={"facts": {"detail": extraction.refusal.detail}}
            )
            message = Refusal("engine_failed").message
            answer["refusal"] = {"reason": "engine_failed", "message": message}
        return answer

    def _read_page(self, name: str) -> bytes:
        """Return the bytes of the file `name` below the folder of pages."""
        if self.pages is None:
            raise ToolRefusalError("no_pages_folder", "no folder of pages is open: send html")
        absent = ToolRefusalError("no_page", "no such file below the folder of pages")
        try:
            folder = self.pages.resolve(strict=True)
            path = (folder / name).resolve(strict=True)
            # Also of a link in it: what lies elsewhere is as absent as what does not exist.
            if not path.is_relative_to(folder) or not path.is_file():
                raise absent
            most = self.expert.contract.clean.max_bytes
            with path.open("rb") as file:
                return file.read(most + 1)
        except (OSError, ValueError) as error:
            raise absent from error

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return what this expert is."""
        manifest = files.read_object(self.folder / "manifest.json", "restore the file")
        gate = self.folder / "gate.json"
        verdict = files.read_object(gate).get("verdict") if gate.is_file() else None
        fallback = self.expert.fallback
        return {
            "package": self.folder.name,
            "sem": manifest.get("sem"),
            "tasks": sorted(self.expert.contract.tasks),
            "engine": self.expert.engine.name,
            "gate": verdict,
            "fallback_tokens_left": fallback and fallback.tokens_left,
            "project": self.project_status and self.project_status(),
        }

    def report(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return the report in the package."""
        text = (self.folder / "eval_report.md").read_text("utf-8", "replace")
        return {"report": text[:MAX_REPORT_CHARS], "is_cut": len(text) > MAX_REPORT_CHARS}


def build_mcp_server(tools: ExpertTools) -> Any:
    """Return the SDK's server of `tools`."""
    from mcp import types
    from mcp.server.lowlevel import Server

    async def list_tools(_: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(name=name, description=words, input_schema=form)
                for name, words, form in tools.describe()
            ]
        )

    async def call_tool(_: Any, params: Any) -> types.CallToolResult:
        answer, is_error = await asyncio.to_thread(_call, tools, params.name, params.arguments)
        text = answer.get("report") or jsonio.canonical_json(answer)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)],
            structured_content=answer,
            is_error=is_error,
        )

    return Server("opensem", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


def _call(
    tools: ExpertTools, name: str, arguments: dict[str, Any] | None
) -> tuple[dict[str, Any], bool]:
    """Return what `tools` answers; a fault of ours is logged, and a typed error as well."""
    try:
        return tools.call(name, arguments or {})
    except Exception:
        logging.getLogger("sem.serve").exception("bug", extra={"facts": {"tool": name[:80]}})
        return ToolRefusalError("bug", "an error in the server; its log says more").body, True


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send to stderr what anything writes to stdout within: it is the protocol's alone."""
    sys.stdout.flush()
    wire = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(wire, 1)
        os.close(wire)


def serve_tools_on_stdio(load: Callable[[], ExpertTools]) -> None:
    """Serve the tools that `load` returns on stdin and stdout, until stdin ends."""
    process.prepare_process()
    with quiet_stdout():
        tools = load()
        server = build_mcp_server(tools)

    async def run() -> None:
        from mcp.server.stdio import stdio_server

        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    try:
        asyncio.run(run())
    finally:
        tools.expert.close()


def build_mcp_app(
    tools: ExpertTools, settings: HttpSettings, keys: tuple[str, ...], metrics: Metrics
) -> Any:
    """Return the ASGI application of `tools`, behind the guard."""
    from mcp.server.transport_security import TransportSecuritySettings

    counted = _CountedCalls(settings.max_waiting)
    app = build_mcp_server(tools).streamable_http_app(
        streamable_http_path=MCP_PATH,
        # No session: nothing is left behind by a client that goes.
        stateless_http=True,
        json_response=True,
        max_request_body_size=settings.max_body_bytes,
        # The guard knows the hosts and origins.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    rules = GuardRules((MCP_PATH,), (), keys, refuse_when_full=counted.refuse_when_full)
    return routes.guard_application(counted.around(app), settings, rules, metrics)


class _CountedCalls:
    """How many requests are being answered: one expert answers them in turn."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0

    def refuse_when_full(self) -> RequestRefusalError | None:
        """Return the refusal of one request more, where there are enough."""
        return queue_full_refusal(self._count, "pages") if self._count >= self._most else None

    def around(self, app: Any) -> Any:
        """Return `app`, whose requests are counted."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self._count += scope["type"] == "http"
            try:
                await app(scope, receive, send)
            finally:
                self._count -= scope["type"] == "http"

        return counted


def serve_tools_over_http(
    load: Callable[[], ExpertTools],
    settings: HttpSettings,
    keys: tuple[str, ...],
    report_address: Callable[[str], None],
) -> None:
    """Serve the tools that `load` returns at /mcp until SIGTERM; the process ends with 0."""
    listener = process.open_listener(settings)
    process.prepare_process()
    metrics = Metrics("sem_expert", "pages")
    app = build_mcp_app(load(), settings, keys, metrics)
    report_address(process.listener_url(listener) + MCP_PATH)
    process.run_until_ended(app, settings, listener)
    process.end_process(metrics)
