"""The routes of docs/optimizer.md as a FastAPI application, behind the guard."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NoReturn

from sem.core import jsonio
from sem.lm.server import process, routes
from sem.lm.server.guard import GuardRules
from sem.lm.server.refusal import RequestRefusalError
from sem.lm.server.settings import read_server_keys
from sem.optimizer.model.fast_rewriter import Engine
from sem.optimizer.model.rewriter import Rewrite
from sem.optimizer.server import config, network
from sem.optimizer.server.config import ServeSettings
from sem.optimizer.server.service import Service

# A rewrite as server-sent events: text as it grows, then the whole with its confidence.

# Of one event, in the OpenAPI document: `data` is JSON.
STREAM_SCHEMA = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {"event": {"enum": ["token", "done", "error"]}, "data": {"type": "string"}},
}


async def stream_events(
    service: Service,
    prompt: str,
    waiting: "asyncio.Future[Any]",
    tokens: "asyncio.Queue[int]",
    request_id: str,
) -> AsyncIterator[bytes]:
    """Yield `token` events whose texts add up to a beginning of the rewrite.

    `done` holds all of it.
    """
    rewriter = service.network.rewriter if service.network else None
    ids: list[int] = []
    sent = ""
    # Starlette cancels this when the client leaves, and with it the place in line.
    departure: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    whole = asyncio.ensure_future(service.queue.wait([waiting], departure))
    heard = asyncio.ensure_future(tokens.get())
    try:
        while not whole.done():
            await asyncio.wait({heard, whole}, return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                continue
            ids.append(heard.result())
            while not tokens.empty():
                ids.append(tokens.get_nowait())
            heard = asyncio.ensure_future(tokens.get())
            grown = decode_stable_text(rewriter, ids, sent)
            if len(grown) > len(sent):
                yield _event("token", {"text": grown[len(sent) :]})
                sent = grown
        (rewrite,) = whole.result()
        sure = service.confidence(rewrite, prompt)
        yield _event("done", {"optimized_prompt": rewrite.text, "confidence": sure})
    except RequestRefusalError as error:
        yield _event("error", error.body(request_id))
    finally:
        heard.cancel()
        whole.cancel()
        waiting.cancel()


def decode_stable_text(rewriter: Any, ids: list[int], sent: str) -> str:
    """As much of the text of IDS as no later token changes, at least `sent`.

    A space before a token that stands for a character goes away, and an escaped character is
    there only when its last token is.
    """
    content_ids = [token_id for token_id in ids if token_id != rewriter.end]
    spelling = rewriter.speaker.spelling
    if spelling is not None:
        escape = rewriter.speaker.tokenizer.convert_tokens_to_ids(spelling.escape)
        if content_ids.count(escape) % 2:
            content_ids = content_ids[: len(content_ids) - content_ids[::-1].index(escape) - 1]
    text = rewriter.text(content_ids).rstrip(" ")
    return text if text.startswith(sent) else sent


def _event(name: str, value: Any) -> bytes:
    return f"event: {name}\ndata: {jsonio.canonical_json(value)}\n\n".encode()


# The requests and replies of docs/optimizer.md as pydantic models, bounded by the settings.

EXAMPLE = "write a function that reads a csv file"


def build_schemas(config: ServeSettings) -> Any:
    """Return the models, as attributes; fields that a client sends beyond them are ignored."""
    return SimpleNamespace(**_requests(config), **_feedback(config), **_replies())


def _model() -> Any:
    from pydantic import BaseModel, ConfigDict

    class Model(BaseModel):
        model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    return Model


def _share() -> Any:
    from pydantic import Field

    return Annotated[float, Field(strict=True, ge=0, le=1)]


def _prompt(config: ServeSettings) -> Any:
    from pydantic import Field

    return Annotated[str, Field(min_length=1, max_length=config.max_chars, examples=[EXAMPLE])]


def _requests(config: ServeSettings) -> dict[str, Any]:
    from pydantic import Field

    length = Field(strict=True, ge=1, le=config.max_length, description="most output tokens")
    heat = Field(strict=True, ge=0, le=2, description="0: greedy, the same text each time")
    several = Field(min_length=1, max_length=config.max_prompts)
    Prompt, Model = _prompt(config), _model()

    class Decoded(Model):
        max_length: Annotated[int, length] = config.max_length
        temperature: Annotated[float, heat] = 0.7

    class OptimizeRequest(Decoded):
        raw_prompt: Prompt
        stream: bool = False

    class BatchRequest(Decoded):
        prompts: Annotated[list[Prompt], several]

    return {"OptimizeRequest": OptimizeRequest, "BatchRequest": BatchRequest}


def _feedback(config: ServeSettings) -> dict[str, Any]:
    from pydantic import Field

    Prompt, Share, Model = _prompt(config), _share(), _model()
    Text = Annotated[str, Field(min_length=1, max_length=4 * config.max_chars)]

    class FeedbackRequest(Model):
        raw_prompt: Prompt
        edited_prompt: Text
        success_score: Share
        optimized_prompt: Annotated[Text | None, Field(description="what was edited")] = None

    class FeedbackReply(Model):
        success: bool
        message: str

    return {"FeedbackRequest": FeedbackRequest, "FeedbackReply": FeedbackReply}


def _replies() -> dict[str, Any]:
    from pydantic import ConfigDict, Field

    Share, Model = _share(), _model()

    class OptimizeReply(Model):
        optimized_prompt: str
        confidence: Share

    class BatchReply(Model):
        optimized_prompts: list[str]
        confidences: list[Share]

    class RulesReply(Model):
        rules: list[str]
        note: str

    class HealthReply(Model):
        status: str
        model_loaded: bool
        device: str
        model_type: str
        approach: str
        model: str | None
        waiting: int
        cure: Annotated[str | None, Field(description="what helps where no model is loaded")]

    class ErrorReply(Model):
        model_config = ConfigDict(extra="allow")
        detail: Annotated[str, Field(description="a sentence to show")]
        reason: Annotated[str, Field(description="a word to program against")]
        request_id: str

    replies = (OptimizeReply, BatchReply, RulesReply, HealthReply, ErrorReply)
    return {reply.__name__: reply for reply in replies}


# The page at / and the API's at /docs: made of files here and of `core/pages.py`.

ASSETS = Path(__file__).parent / "assets"
FILES = {
    "/": ("rewrite.html.j2", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/docs": ("docs.html.j2", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}

REWRITES = ("/optimize", "/optimize/stream", "/optimize/batch")
TITLE = "Sem prompt optimizer"
NOTE = "No rules: every rewrite comes from the network."
# Status -> when; each is answered with an ErrorReply.
FAULTS = {
    400: "The request is not JSON, or names another host",
    401: "No API key, where one is asked for",
    403: "From a page of another address",
    408: "The body came too slowly",
    413: "The body is too long",
    422: "A field does not fit, or the prompt has more tokens than are read",
    429: "The queue is full",
    503: "Model not loaded, or no answer in time",
}


def build_app(service: Service, keys: tuple[str, ...]) -> Any:
    """Return the ASGI application of `service`; requests must show one of `keys`, if any."""
    app = _application(service)
    _add_faults(app)
    models = build_schemas(service.config)
    error_models = {
        code: {"model": models.ErrorReply, "description": FAULTS[code]} for code in FAULTS
    }
    _add_optimize(app, service, models, error_models)
    _add_feedback(app, service, models, error_models)
    _add_facts(app, service, models, error_models)
    routes.add_file_routes(app, ASSETS, FILES)
    rules = GuardRules(
        REWRITES, (*FILES, "/health", "/openapi.json"), keys, refuse_when_full=service.full
    )
    return routes.guard_application(app, service.config, rules, service.metrics)


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
    from fastapi.responses import Response

    routes.add_refusal_handlers(app)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        listed = [_fault(fault) for fault in error.errors()]
        first = listed[0]
        detail = f"{first['field'] or 'the body'}: {first['message']}"
        refusal = RequestRefusalError(422, "invalid", detail, errors=listed)
        return routes.refusal_response(request, refusal, RequestRefusalError.body)


def _fault(error: dict[str, Any]) -> dict[str, str]:
    # Where a body is not JSON, a position stands in the place of a field's name.
    place = () if error["type"] == "json_invalid" else error["loc"][1:]
    name = ".".join(map(str, place))[:80].encode("ascii", "replace").decode()
    return {"field": name, "message": error["msg"]}


def _add_optimize(app: Any, service: Service, models: Any, error_models: dict[int, Any]) -> None:
    from fastapi import Request
    from fastapi.responses import StreamingResponse

    events = {200: {"content": {"text/event-stream": {"schema": STREAM_SCHEMA}}}}

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
        event_stream = stream_events(
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
    rewrites = await service.queue.wait(
        waiting, asyncio.ensure_future(routes.wait_for_departure(request))
    )
    facts["tokens"] = sum(rewrite.tokens for rewrite in rewrites)
    return rewrites


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


def serve_http(
    settings: ServeSettings, root: Path, name: str | None, say: Callable[[str], None]
) -> NoReturn:
    """Serve the optimizer `name` of the tree `root` until SIGTERM; `say` hears the address.

    It does not return: the process ends with exit code 0.
    """
    keys = read_server_keys(settings, config.KEY)
    process.prepare_process()
    engine = Engine(settings.weights, settings.threads)
    service = Service(settings, root, partial(network.load_served_network, root, name, engine))
    listener = process.open_listener(settings)
    say(process.listener_url(listener))
    process.run_until_ended(build_app(service, keys), settings, listener)
    process.end_process(service.metrics)
