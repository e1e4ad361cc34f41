"""The routes of docs/asking.md as a Starlette application, behind the guard.

serve_package(folder, "transformers", ExpertSettings(), None, print)
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from sem.core import jsonio, schema
from sem.lm.server import process, routes
from sem.lm.server.guard import GuardRules
from sem.lm.server.refusal import RequestRefusalError
from sem.lm.server.settings import read_server_keys
from sem.package.serve.expert import Expert, PageQuestion
from sem.package.serve.fallback import open_fallback
from sem.package.serve.http import chat
from sem.package.serve.http.capture import CaptureFolder
from sem.package.serve.http.service import ExpertService
from sem.package.serve.http.settings import KEYS, ExpertSettings

EXTRACT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "html": {"type": "string"},
        "text": {"type": "string"},
        "task": {"type": ["string", "null"], "maxLength": 200},
        "url": {"type": ["string", "null"], "maxLength": 4_096},
        "page_type": {"type": ["string", "null"], "maxLength": 200},
        # Also answer with the cleaned page, as the model read it.
        "show_page": {"type": "boolean"},
    },
}
EXTRACT, CHAT = "/v1/extract", "/v1/chat/completions"
ASSETS = Path(__file__).parent / "assets"
FILES = {
    "/": ("ask.html.j2", "text/html"),
    "/page.css": ("ask.css", "text/css"),
    "/page.js": ("ask.js", "text/javascript"),
}


def error_body(error: RequestRefusalError, request_id: str) -> dict[str, Any]:
    """Return the JSON of a refusal, with `error` as clients of OpenAI read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(
        error.status, "server_error" if error.status >= 500 else "invalid_request_error"
    )
    named = {"message": error.detail, "type": kind, "code": error.reason, "param": None}
    return {**error.body(request_id), "error": named}


def build_expert_app(service: ExpertService, keys: tuple[str, ...] = ()) -> Any:
    """Return the ASGI application of `service`; requests must show one of `keys`, if any."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    handlers = _Handlers(service)
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route(EXTRACT, handlers.extract, methods=["POST"]),
            Route(CHAT, handlers.chat, methods=["POST"]),
            Route("/v1/models", handlers.models),
            Route("/v1/models/{name}", handlers.model),
            Route("/health", handlers.health),
            Route("/ready", handlers.ready),
            Route("/metrics", handlers.metrics),
        ],
    )
    routes.add_refusal_handlers(app, error_body)
    routes.add_file_routes(app, ASSETS, FILES)
    rules = GuardRules(
        (EXTRACT, CHAT),
        (*FILES, "/health", "/ready"),
        keys,
        refuse_when_full=service.refuse_when_full,
        error_body=error_body,
    )
    return routes.guard_application(app, service.settings, rules, service.metrics)


class _Handlers:
    """One method a route."""

    def __init__(self, service: ExpertService) -> None:
        self.service = service

    async def extract(self, request: Any) -> Any:
        """Answer one page with `Extraction.as_json()`."""
        body = await _read_body(request, EXTRACT_SCHEMA)
        pages = [body[name] for name in ("html", "text") if name in body]
        if len(pages) != 1:
            raise RequestRefusalError(422, "invalid", "send the page as either html or text")
        question = PageQuestion(pages[0], body.get("task"), body.get("url"), body.get("page_type"))
        extraction = await self.service.extract(question, request)
        shown = {"page": extraction.page} if body.get("show_page") else {}
        return _json_response(extraction.as_json() | shown)

    async def chat(self, request: Any) -> Any:
        """Answer the page in the last message of the user as a chat completion."""
        from starlette.responses import StreamingResponse

        body = await _read_body(request, chat.CHAT_SCHEMA)
        question = chat.chat_question(body, self.service.expert.contract.tasks)
        extraction = await self.service.extract(question, request)
        request_id = request.state.passage.id
        if not body.get("stream"):
            return _json_response(chat.completion_json(extraction, request_id))
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        events = chat.completion_events(extraction, request_id, with_usage)
        return StreamingResponse(events, media_type="text/event-stream")

    async def models(self, _: Any) -> Any:
        """Return the tasks of the package, as models."""
        return _json_response({"object": "list", "data": self._models()})

    async def model(self, request: Any) -> Any:
        """Return one task of the package, as a model."""
        name = request.path_params["name"]
        for described in self._models():
            if described["id"] == name:
                return _json_response(described)
        raise chat.unknown_model_refusal(name, self.service.expert.contract.tasks)

    def _models(self) -> list[dict[str, Any]]:
        return chat.models_json(self.service.expert.contract.tasks, self.service.name)

    async def health(self, _: Any) -> Any:
        """Return that the process lives."""
        return _json_response({"status": "healthy", "waiting": len(self.service.line or ())})

    async def ready(self, _: Any) -> Any:
        """Return whether pages are answered; where they are not, ask the first one again."""
        service = self.service
        fault = service.fault
        service.ask_first()
        facts = {"ready": fault is None, "package": service.name, "fault": fault}
        engine = {"engine": service.expert.engine.name, "tasks": service.tasks}
        return _json_response(facts | engine, 200 if fault is None else 503)

    async def metrics(self, _: Any) -> Any:
        """Return the counters in Prometheus' format."""
        from starlette.responses import Response

        content, kind = self.service.metrics.text()
        return Response(content, media_type=kind)


def _json_response(value: Any, status: int = 200) -> Any:
    from starlette.responses import Response

    return Response(jsonio.canonical_json(value), status, media_type="application/json")


async def _read_body(request: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON object in `request`; raise RequestRefusalError when it is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestRefusalError(415, "not_json", "send content-type: application/json")
    # 16 MB take a second: not on the event loop.
    return await asyncio.to_thread(_parse_body, await request.body(), expected)


def _parse_body(content: bytes, expected: dict[str, Any]) -> dict[str, Any]:
    try:
        body = jsonio.parse_json(content.decode())
    except ValueError as error:
        # Where it stands, and not what was sent.
        place = f"position {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        detail = "the body is no JSON in UTF-8" + (f" ({place})" if place else "")
        raise RequestRefusalError(400, "not_json", detail) from error
    if problems := schema.schema_problems(body, expected, limit=1):
        raise RequestRefusalError(422, "invalid", problems[0][:200])
    return body


def serve_package(
    folder: Path,
    engine: str,
    settings: ExpertSettings,
    capture: Path | None,
    report_address: Callable[[str], None],
    fallback: Path | None = None,
) -> NoReturn:
    """Serve the package in `folder` until SIGTERM; `report_address` hears where it is asked.

    `fallback`: a file that names a strong model for the pages it is least sure of. It does not
    return: the process ends with exit code 0.
    """
    keys = read_server_keys(settings, KEYS)
    captures = CaptureFolder(capture, folder.name, settings) if capture else None
    strong = open_fallback(fallback) if fallback else None
    # Before the model is loaded: a port that is taken is said at once.
    listener = process.open_listener(settings)
    process.prepare_process()
    expert = Expert.load(folder, engine, slots=settings.max_batch)
    service = ExpertService(expert, settings, folder.name, captures, fallback=strong)
    report_address(process.listener_url(listener))
    process.run_until_ended(build_expert_app(service, keys), settings, listener)
    process.end_process(service.metrics)
