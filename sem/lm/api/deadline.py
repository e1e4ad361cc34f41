"""Connections of httpcore whose every connect, read and write ends at one deadline.

httpcore counts each of its timeouts anew with every byte, so that a byte now and then keeps an
exchange open for ever: in the status line, a header, `103 Early Hints`, a chunk extension, a
trailer or the body.
"""

from collections.abc import Callable
from typing import Any

import httpcore

# Sent in pieces, so that a server that reads slowly cannot stretch one piece past the deadline.
SEND_BYTES = 16_384

# Until the deadline of the exchange of this thread.
SecondsLeft = Callable[[], float]


def _shorter(timeout: float | None, left_s: float, error: type[Exception]) -> float | None:
    if left_s <= 0:
        raise error("the deadline of the whole exchange has passed")
    if left_s == float("inf"):
        return timeout
    return left_s if timeout is None else min(left_s, timeout)


class Stream(httpcore.NetworkStream):
    """One connection; errors are httpcore's own timeouts."""

    def __init__(self, stream: httpcore.NetworkStream, left_s: SecondsLeft) -> None:
        self._stream, self._left_s = stream, left_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        limit = _shorter(timeout, self._left_s(), httpcore.ReadTimeout)
        return self._stream.read(max_bytes, limit)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), SEND_BYTES):
            limit = _shorter(timeout, self._left_s(), httpcore.WriteTimeout)
            self._stream.write(buffer[start : start + SEND_BYTES], limit)

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Stream":
        limit = _shorter(timeout, self._left_s(), httpcore.ConnectTimeout)
        return Stream(self._stream.start_tls(ssl_context, server_hostname, limit), self._left_s)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Backend(httpcore.NetworkBackend):
    """What opens those connections; `inner` really does it."""

    def __init__(self, inner: httpcore.NetworkBackend, left_s: SecondsLeft) -> None:
        self._inner, self._left_s = inner, left_s

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *more: Any, **named: Any
    ) -> Stream:
        limit = _shorter(timeout, self._left_s(), httpcore.ConnectTimeout)
        return Stream(self._inner.connect_tcp(host, port, limit, *more, **named), self._left_s)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, *more: Any, **named: Any
    ) -> Stream:
        limit = _shorter(timeout, self._left_s(), httpcore.ConnectTimeout)
        inner = self._inner.connect_unix_socket(path, limit, *more, **named)
        return Stream(inner, self._left_s)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
