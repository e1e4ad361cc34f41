"""What the routes of every server here share: refusals in one form, pages, who has left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sem.core import pages
from sem.lm.server.guard import ErrorBody, Guard, GuardRules
from sem.lm.server.metrics import Metrics
from sem.lm.server.refusal import RequestRefusalError
from sem.lm.server.settings import HttpSettings


def refusal_response(request: Any, error: RequestRefusalError, error_body: ErrorBody) -> Any:
    """Return the answer to `request` that is refused, and note why for the log."""
    from starlette.responses import JSONResponse

    passage = request.state.passage
    passage.reason = error.reason
    return JSONResponse(error_body(error, passage.id), error.status, error.headers)


def add_refusal_handlers(app: Any, error_body: ErrorBody = RequestRefusalError.body) -> None:
    """Let `app` answer a RequestRefusalError, or an HTTP error of its own, in one form."""
    from starlette.exceptions import HTTPException

    async def refused(request: Any, error: RequestRefusalError) -> Any:
        return refusal_response(request, error, error_body)

    async def other(request: Any, error: HTTPException) -> Any:
        plain = RequestRefusalError(error.status_code, "http", str(error.detail))
        response = refusal_response(request, plain, error_body)
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(RequestRefusalError, refused)
    app.add_exception_handler(HTTPException, other)


def add_file_routes(app: Any, folder: Path, files: Mapping[str, tuple[str, str]]) -> None:
    """Serve from `app` every file of `files` in `folder`: its name and media type, by path."""
    from starlette.responses import Response
    from starlette.routing import Route

    for path, (name, kind) in files.items():
        content = _asset_text(folder / name)

        async def asset(_: Any, content: str = content, kind: str = kind) -> Response:
            return Response(content, media_type=f"{kind}; charset=utf-8")

        app.router.routes.append(Route(path, asset, include_in_schema=False))


def _asset_text(path: Path) -> str:
    """Return what is served of the file `path`: pages and their style have the common parts."""
    if path.name.endswith(".j2"):
        return pages.render_page(path)
    text = path.read_text("utf-8")
    return pages.page_style() + text if path.name.endswith(".css") else text


def guard_application(
    app: Any, settings: HttpSettings, rules: GuardRules, metrics: Metrics
) -> Any:
    """Return `app` behind the guard, and open to the origins of `settings`."""
    from starlette.middleware.cors import CORSMiddleware

    guarded = Guard(app, settings, rules, metrics)
    if not settings.origins:
        return guarded
    return CORSMiddleware(
        guarded,
        allow_origins=list(settings.origins),
        allow_methods=["GET", "POST"],
        allow_headers=["content-type", "authorization", "x-api-key"],
        expose_headers=["x-request-id", "retry-after"],
    )


async def wait_for_departure(request: Any) -> None:
    """Return when the client of `request` has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
