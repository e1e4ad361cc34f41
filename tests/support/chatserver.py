"""A real OpenAI-compatible HTTP server in a thread, whose replies and faults are scripted."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
# Request body and its number -> reply text or a fault's name.
Script = Callable[[Body, int], str]

STATUS = {"401": 401, "403": 403, "429": 429, "500": 500, "503": 503, "400": 400}


@dataclass
class ChatServer:
    """What was asked of it, when, and how it answers; `script` may be replaced at any time."""

    script: Script
    seen: list[Body] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    retry_after: str = "0"
    hang_s: float = 3.0
    # 0: any that is free.
    port: int = 0
    # Request body -> tokens in and out, as a reply says them.
    count: Callable[[Body], tuple[int, int]] = lambda body: (40, 10)

    def __enter__(self) -> "ChatServer":
        self._server = _Quiet(("127.0.0.1", self.port), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def note(self, body: Body, key: str) -> int:
        with _LOCK:
            self.seen.append(body)
            self.at.append(time.monotonic())
            self.keys.append(key)
            return len(self.seen)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        # a client that hangs up is part of the script.
        return


_LOCK = threading.Lock()


def completion(text: str, finish: str = "stop", **changes: Any) -> Body:
    """Return a chat completion that says `text`."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    made = {"id": "c", "object": "chat.completion", "created": 1, "model": "stub"}
    return {**made, "choices": [choice], "usage": usage, **changes}


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            key = self.headers.get("authorization", "")
            said = server.script(body, server.note(body, key))
            time.sleep(server.delay_s)
            try:
                self.answer(said, key, server.count(body))
            except OSError:
                self.close_connection = True

        def answer(self, said: str, key: str, counts: tuple[int, int]) -> None:
            if said in STATUS:
                # Real providers echo the key they refuse.
                error = {"error": {"message": f"no: {said} for {key}", "type": "t", "code": said}}
                self.send(STATUS[said], error, {"retry-after": server.retry_after})
            elif said in FAULTS:
                FAULTS[said](self, server)
            else:
                usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
                whole = usage | {"total_tokens": sum(counts)}
                self.send(200, completion(said, usage=whole))

        def send(self, status: int, body: Body, headers: dict[str, str] | None = None) -> None:
            self.raw(status, json.dumps(body).encode(), "application/json", headers)

        def raw(
            self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    return Handler


def _hang(handler: Any, server: ChatServer) -> None:
    time.sleep(server.hang_s)
    handler.send(200, completion("late"))


def _drip(handler: Any, server: ChatServer) -> None:
    # Every byte resets a read timeout: only a deadline over the whole reply ends this.
    data = json.dumps(completion("slow")).encode()
    handler.send_response(200)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    for byte in data:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def _reset(handler: Any, server: ChatServer) -> None:
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    raise OSError("reset")


def _half(handler: Any, server: ChatServer) -> None:
    data = json.dumps(completion("x" * 400)).encode()
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    raise OSError("half a body")


def _html(handler: Any, server: ChatServer) -> None:
    handler.raw(200, b"<html><body>Sign in to the network</body></html>", "text/html")


def _empty(handler: Any, server: ChatServer) -> None:
    handler.send(200, completion("", choices=[]))


def _length(handler: Any, server: ChatServer) -> None:
    handler.send(200, completion('{"pass": true', "length"))


def _huge(handler: Any, server: ChatServer) -> None:
    handler.send(200, completion("x" * 60_000_000))


def _bomb(handler: Any, server: ChatServer) -> None:
    import gzip

    data = gzip.compress(json.dumps(completion("x" * 60_000_000)).encode())
    handler.raw(200, data, "application/json", {"content-encoding": "gzip"})


def _redirect(handler: Any, server: ChatServer) -> None:
    handler.raw(307, b"", "text/plain", {"location": "http://127.0.0.1:9/elsewhere"})


def _many(handler: Any, server: ChatServer) -> None:
    choice = completion("x")["choices"][0]
    handler.send(200, completion("x", choices=[choice] * 20_000))


# Each part of a reply, a byte at a time: a read timeout begins anew with every byte.
DRIPS: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"", b"HTTP/1.1 200 " + b"O" * 400),
    "header": (b"HTTP/1.1 200 OK\r\nx-a: ", b"a" * 400),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20),
    "100 continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 20),
    "chunk extension": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=",
        b"a" * 400,
    ),
    "trailer": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-a: ",
        b"a" * 400,
    ),
    "body": (b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n", b" " * 400),
}


def _drip_part(part: str) -> Callable[[Any, ChatServer], None]:
    def drip(handler: Any, server: ChatServer) -> None:
        start, rest = DRIPS[part]
        handler.wfile.write(start)
        for byte in rest:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)
        handler.close_connection = True

    return drip


FAULTS: dict[str, Callable[[Any, ChatServer], None]] = {
    "hang": _hang,
    "drip": _drip,
    "reset": _reset,
    "half": _half,
    "html": _html,
    "empty": _empty,
    "length": _length,
    "huge": _huge,
    "bomb": _bomb,
    "redirect": _redirect,
    "many": _many,
    **{f"drip {part}": _drip_part(part) for part in DRIPS},
}
