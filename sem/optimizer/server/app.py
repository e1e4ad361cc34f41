"""The routes of docs/optimizer.md as a FastAPI application, behind the guard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sem.optimizer.model.rewriter import Rewrite
from sem.optimizer.server import page, schemas, stream
from sem.optimizer.server.guard import Guard
from sem.optimizer.server.refusal import Refusal
from sem.optimizer.server.service import Service

TITLE = "Sem prompt optimizer"
NOTE = "No rules: every rewrite comes from the network."
# Status -> when; each is answered with an ErrorReply.
FAULTS = {
    400: "The request is no JSON, or names another host",
    401: "No API key, where one is asked for",
    403: "From a page of another address",
    408: "The body came too slowly",
    413: "The body is too long",
    422: "A field does not fit, or the prompt has more tokens than are read",
    429: "The line is full",
    503: "Model not loaded, or no answer in time",
}


def build_app(service: Service, key: str | None) -> Any:
    """Return the ASGI application of `service`, which asks for `key` where there is one."""
    from starlette.middleware.cors import CORSMiddleware

    app = _application(service)
    _add_faults(app)
    models = schemas.build_schemas(service.config)
    error_models = {
        code: {"model": models.ErrorReply, "description": FAULTS[code]} for code in FAULTS
    }
    _add_optimize(app, service, models, error_models)
    _add_feedback(app, service, models, error_models)
    _add_facts(app, service, models, error_models)
    page.add_page_routes(app)
    guarded = Guard(app, service.config, key, service.metrics, service.full)
    if not service.config.origins:
        return guarded
    return CORSMiddleware(
        guarded,
        allow_origins=list(service.config.origins),
        allow_methods=["GET", "POST"],
        allow_headers=["content-type", "authorization", "x-api-key"],
        expose_headers=["x-request-id", "retry-after"],
    )


def _application(service: Service) -> Any:
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    return FastAPI(
        title=TITLE,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        description="Rewrites a vague prompt into a whole one. " + NOTE,
    )


def _add_faults(app: Any) -> None:
    """Errors in one form, without what was sent: NaN and half surrogates cannot be echoed."""
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    def answered(request: Request, error: Refusal) -> JSONResponse:
        passage = request.state.passage
        passage.reason = error.reason
        return JSONResponse(error.body(passage.id), error.status, error.headers)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return answered(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        listed = [_fault(fault) for fault in error.errors()]
        first = listed[0]
        detail = f"{first['field'] or 'the body'}: {first['message']}"
        return answered(request, Refusal(422, "invalid", detail, errors=listed))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        response = answered(request, Refusal(error.status_code, "http", str(error.detail)))
        response.headers.update(error.headers or {})
        return response


def _fault(error: dict[str, Any]) -> dict[str, str]:
    # Where a body is no JSON, a position stands in the place of a field's name.
    place = () if error["type"] == "json_invalid" else error["loc"][1:]
    name = ".".join(map(str, place))[:80].encode("ascii", "replace").decode()
    return {"field": name, "message": error["msg"]}


def _add_optimize(app: Any, service: Service, models: Any, error_models: dict[int, Any]) -> None:
    from fastapi import Request
    from fastapi.responses import StreamingResponse

    events = {200: {"content": {"text/event-stream": {"schema": stream.SCHEMA}}}}

    @app.post("/optimize", responses=error_models | events)
    async def optimize(body: models.OptimizeRequest, request: Request) -> models.OptimizeReply:
        """Rewrite one prompt; with `stream: true` as server-sent events."""
        if body.stream:
            return await streamed(body, request)
        (rewrite,) = await _asked(service, request, [body.raw_prompt], body)
        sure = service.confidence(rewrite, body.raw_prompt)
        return models.OptimizeReply(optimized_prompt=rewrite.text, confidence=sure)

    @app.post(
        "/optimize/stream", responses=error_models | events, response_class=StreamingResponse
    )
    async def streamed(body: models.OptimizeRequest, request: Request) -> StreamingResponse:
        """Rewrite one prompt as server-sent events: token, token, …, done."""
        tokens: asyncio.Queue[int] = asyncio.Queue()
        (waiting,) = await service.enter(
            [body.raw_prompt], body.max_length, body.temperature, tokens.put_nowait
        )
        event_stream = stream.events(
            service, body.raw_prompt, waiting, tokens, request.state.passage.id
        )
        return StreamingResponse(event_stream, media_type="text/event-stream")

    @app.post("/optimize/batch", responses=error_models)
    async def batch(body: models.BatchRequest, request: Request) -> models.BatchReply:
        """Rewrite several prompts, in order."""
        rewrites = await _asked(service, request, body.prompts, body)
        pairs = zip(rewrites, body.prompts, strict=True)
        return models.BatchReply(
            optimized_prompts=[rewrite.text for rewrite in rewrites],
            confidences=[service.confidence(rewrite, prompt) for rewrite, prompt in pairs],
        )


async def _asked(service: Service, request: Any, prompts: list[str], body: Any) -> list[Rewrite]:
    facts = request.scope["state"].setdefault("facts", {})
    facts |= {"prompts": len(prompts), "max_length": body.max_length}
    if service.config.log_prompts:
        facts["said"] = prompts
    waiting = await service.enter(prompts, body.max_length, body.temperature)
    rewrites = await service.answers(waiting, asyncio.ensure_future(_left(request)))
    facts["tokens"] = sum(rewrite.tokens for rewrite in rewrites)
    return rewrites


async def _left(request: Any) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_feedback(app: Any, service: Service, models: Any, error_models: dict[int, Any]) -> None:
    @app.post("/feedback", responses=error_models)
    async def feedback(body: models.FeedbackRequest) -> models.FeedbackReply:
        """Keep what a person made of a rewrite, and how it did; for the next training run."""
        model = service.network.name if service.network else None
        await service.feedback.keep(body.model_dump(exclude_none=True), model)
        return models.FeedbackReply(success=True, message="kept for the next training run")


def _add_facts(app: Any, service: Service, models: Any, error_models: dict[int, Any]) -> None:
    from fastapi.responses import Response

    @app.get("/health", responses={400: error_models[400]})
    async def health() -> models.HealthReply:
        """Return whether a trained optimizer is loaded, and what it is."""
        return models.HealthReply(**service.health())

    @app.get("/rules", responses={code: error_models[code] for code in (400, 401)})
    async def rules() -> models.RulesReply:
        """No rules: kept for clients that ask."""
        return models.RulesReply(rules=[], note=NOTE)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        body, kind = service.metrics.text()
        return Response(body, media_type=kind)
