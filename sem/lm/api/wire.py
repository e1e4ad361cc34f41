"""The HTTP client under litellm and the webhook: the true exchange, and limits on it.

httpx counts a timeout anew with every byte and reads bodies of any size; litellm drops
`Retry-After` and reports a broken connection as status 500. Here an exchange has one deadline from
the connection to the last byte, one size and a bounded number of JSON values, is never compressed
and never redirected, and its true status is kept. Only the look-up of a host name is the system's.

    line = wire.begin(timeout_s=10.0)
    response = wire.client().post(url, content=body)
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpcore

from sem.core import jsonio

# Connections of httpcore whose every connect, read and write ends at one deadline.
#
# httpcore counts each of its timeouts anew with every byte, so that a byte now and then keeps an
# exchange open for ever: in the status line, a header, `103 Early Hints`, a chunk extension, a
# trailer or the body.

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


# Of a reply; a long answer has some 40 kB.
MAX_BYTES = 4_000_000
# Of a JSON reply, outside its strings; a usual one has under 100. litellm makes objects of all of
# them: 3.2 MB of 120,000 choices took it 30 s.
MAX_MARKS = 10_000


@dataclass
class Wire:
    """One HTTP exchange of this thread."""

    timeout_s: float
    deadline: float = float("inf")
    status: int | None = None
    retry_after_s: float = 0.0
    fault: str | None = None
    sent: Callable[[], None] | None = field(default=None, repr=False)


_here = threading.local()


def begin_wire(timeout_s: float, sent: Callable[[], None] | None = None) -> Wire:
    """Return a fresh Wire for the next exchange of this thread.

    `sent` is called as the request leaves.
    """
    _here.wire = Wire(timeout_s, sent=sent)
    return _here.wire


def wire_client() -> Any:
    """Return an httpx client whose exchanges are noted and limited.

    Each exchange begins with `begin` in the same thread. Proxies of the environment hold.
    """
    import httpx

    client = httpx.Client(
        # a compressed reply can be 1,000 times larger.
        headers={"accept-encoding": "identity"},
        event_hooks={"request": [_on_request], "response": [_on_response]},
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        # a key follows no redirect.
        follow_redirects=False,
    )
    # A transport given to httpx.Client would switch off the proxies of the environment.
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            pool = transport._pool
            pool._network_backend = Backend(pool._network_backend, _left_s)
    return client


def loopback_client(timeout_s: float, connections: int) -> Any:
    """Return an httpx client for a server that this process runs on this machine.

    Through no proxy, and without the limits that a stranger's reply has.
    """
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=connections)
    return httpx.Client(timeout=timeout_s, limits=limits, trust_env=False)


def _left_s() -> float:
    """Seconds that the exchange of this thread has left; none left is its fault `timeout`."""
    wire = getattr(_here, "wire", None)
    if wire is None:
        return float("inf")
    remaining_s = wire.deadline - time.monotonic()
    if remaining_s <= 0:
        wire.fault = "timeout"
    return remaining_s


def _on_request(request: Any) -> None:
    wire = getattr(_here, "wire", None)
    if wire is None:
        return
    # From here, not before: litellm's first call loads modules for seconds.
    wire.deadline = time.monotonic() + wire.timeout_s
    if wire.sent is not None:
        wire.sent()


def _on_response(response: Any) -> None:
    wire = getattr(_here, "wire", None)
    if wire is None:
        return
    wire.status = response.status_code
    wire.retry_after_s = _seconds(response.headers.get("retry-after", ""))
    if response.headers.get("content-encoding", "identity") != "identity":
        wire.fault = "too_large"
        raise ConnectionError("a compressed reply that nobody asked for")
    response.stream = _limited(response.stream, wire)
    response.read()
    if jsonio.count_marks(response.text) > MAX_MARKS:
        wire.fault = "too_large"
        raise ConnectionError(f"a reply of more than {MAX_MARKS:,} JSON values")


def _seconds(text: str) -> float:
    """Retry-After in seconds: a number, or an HTTP date; 0 where it says nothing usable."""
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, min(float(text), 3600.0)) if text else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, min(parsedate_to_datetime(text).timestamp() - time.time(), 3600.0))
    except (ValueError, TypeError):
        return 0.0


def _limited(stream: Any, wire: Wire) -> Any:
    import httpx

    class Limited(httpx.SyncByteStream):
        """STREAM, ended at the deadline, at the size limit, and noted where it breaks."""

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            try:
                for chunk in stream:
                    size += len(chunk)
                    if size > MAX_BYTES:
                        wire.fault = "too_large"
                        raise ConnectionError(f"a reply of more than {MAX_BYTES:,} bytes")
                    if time.monotonic() > wire.deadline:
                        wire.fault = "timeout"
                        raise ConnectionError("a reply that does not end in time")
                    yield chunk
            except httpx.TimeoutException:
                wire.fault = "timeout"
                raise
            except httpx.HTTPError:
                wire.fault = "cut_off"
                raise

        def close(self) -> None:
            stream.close()

    return Limited()
