"""An HTTP server of a test's own: a real one on a free port, in a thread."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class StandIn:
    """Serves while it is entered; `asked` is what was asked, method and path.

    Its handler sees it under `name`.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], name: str) -> None:
        self.asked: list[tuple[str, str]] = []
        own: Any = type("Handler", (handler,), {name: self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), own)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


def cut_line(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection of `handler` without an answer."""
    handler.close_connection = True
    handler.connection.close()
