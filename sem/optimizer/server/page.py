"""The page at / and the API's at /docs: files beside this module, nothing from elsewhere."""

from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}


def add_page_routes(app: Any) -> None:
    """Serve every file of FILES from `app`."""
    for path, (name, kind) in FILES.items():
        _add(app, path, (ASSETS / name).read_bytes(), kind)


def _add(app: Any, path: str, content: bytes, kind: str) -> None:
    from fastapi.responses import Response

    @app.get(path, include_in_schema=False)
    async def asset() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8")
