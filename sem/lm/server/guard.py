"""What every request passes first: who asks, from where, how much, and how slowly.

A web page of another address can reach this server through the user's browser: by a request that
needs no permission, or by a name that it points at 127.0.0.1 after it was loaded (DNS rebinding).
So the Host is one we know, and an Origin is ours or listed.
"""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sem.core import jsonio
from sem.lm.server.metrics import Metrics
from sem.lm.server.refusal import RequestRefusalError
from sem.lm.server.settings import HttpSettings

log = logging.getLogger("sem.serve")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ErrorBody = Callable[[RequestRefusalError, str], dict[str, Any]]

# Asked every few seconds by whatever watches the server.
QUIET = ("/health", "/ready", "/metrics")
# Before a 413: seconds, and bodies' worth of bytes.
LINGER_S, LINGER = 1.0, 16
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass
class GuardedRequest:
    """One request on its way through: its id, and what is known of its answer."""

    id: str
    began: float
    status: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class GuardRules:
    """Which routes ask what of a request."""

    # Routes that wait for the model: refused while the line is full.
    answering: tuple[str, ...]
    # No key is asked for here: nothing of it is secret, and the page must come up to ask for one.
    without_key: tuple[str, ...]
    keys: tuple[str, ...] = ()
    # The refusal of one request more, where the line takes none.
    refuse_when_full: Callable[[], RequestRefusalError | None] = lambda: None
    # The JSON of a refusal, for the request of that id.
    error_body: ErrorBody = RequestRefusalError.body


class Guard:
    """The ASGI application `app` behind the checks."""

    def __init__(
        self, app: App, config: HttpSettings, rules: GuardRules, metrics: Metrics
    ) -> None:
        self.app, self.config, self.rules, self.metrics = app, config, rules, metrics
        self._keys = [key.encode() for key in rules.keys]
        self._hosts = {*LOOPBACK, *config.hosts}
        if config.host not in ("0.0.0.0", "::"):  # noqa: S104 - what is compared, not bound
            self._hosts.add(config.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        passage = GuardedRequest(uuid.uuid4().hex, time.monotonic())
        scope.setdefault("state", {})["passage"] = passage
        spoken = self._marked(send, passage)
        try:
            self._check(scope)
            body = await self._body(scope, receive)
            # Ten times what can be served is refused here, for a tenth of what a route costs.
            if scope["path"] in self.rules.answering and (
                refusal := self.rules.refuse_when_full()
            ):
                raise refusal
            await self.app(scope, _again(body, receive), spoken)
        except RequestRefusalError as error:
            passage.reason = error.reason
            if error.status == 413 and b"expect" not in dict(scope["headers"]):
                await _drain(receive, self.config.max_body_bytes)
            await self._refuse(spoken, error, passage)
        except Exception:
            log.exception("bug", extra={"facts": {"request_id": passage.id}})
            passage.reason = "bug"
            if not passage.status:
                bug = RequestRefusalError(500, "bug", "an error in the server")
                await self._refuse(spoken, bug, passage)
        finally:
            self._tell(scope, passage)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if _name(host) not in self._hosts:
            raise RequestRefusalError(
                400, "unknown_host", "this server does not answer to that host name"
            )
        origin = headers.get(b"origin")
        if origin is not None and not self._is_ours(origin.decode("latin-1"), host):
            raise RequestRefusalError(
                403, "foreign_origin", "pages of that origin may not use this server"
            )
        is_open = scope["path"] in self.rules.without_key or scope["method"] == "OPTIONS"
        if self._keys and not is_open:
            self._check_key(headers)

    def _is_ours(self, origin: str, host: str) -> bool:
        return origin in self.config.origins or origin in (f"http://{host}", f"https://{host}")

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        token = headers.get(b"x-api-key") or headers.get(b"authorization", b"")
        kind, _, rest = token.partition(b" ")
        token = rest if kind.lower() == b"bearer" else token
        # All of them, so that the time does not tell which one was near.
        matches = [secrets.compare_digest(token.strip(), key) for key in self._keys]
        if not any(matches):
            raise RequestRefusalError(401, "no_key", "send the API key: Authorization: Bearer KEY")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Return the whole body: 413 when it is too long, 408 when it comes too slowly."""
        most = self.config.max_body_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > most:
            raise _too_long(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self.config.read_timeout_s):
                while (message := await receive())["type"] == "http.request":
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise _too_long(most)
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise RequestRefusalError(408, "slow_body", "the request came too slowly") from None
        raise RequestRefusalError(499, "client_left", "the client closed the connection")

    async def _refuse(
        self, send: Send, error: RequestRefusalError, passage: GuardedRequest
    ) -> None:
        body = jsonio.canonical_json(self.rules.error_body(error, passage.id)).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        # What is left of a body that was not read must not be taken for the next request.
        headers |= error.headers | ({"connection": "close"} if error.status in (408, 413) else {})
        listed = [(k.encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": error.status, "headers": listed})
        await send({"type": "http.response.body", "body": body})

    def _marked(self, send: Send, passage: GuardedRequest) -> Send:
        """Return `send` with the security headers and the request's id on every answer."""
        more = [(k.encode(), v.encode()) for k, v in SECURITY.items()]
        more.append((b"x-request-id", passage.id.encode()))

        async def spoken(message: Message) -> None:
            if message["type"] == "http.response.start":
                passage.status = message["status"]
                names = {name.lower() for name, _ in message.get("headers", [])}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name, value) for name, value in more if name not in names),
                ]
            await send(message)

        return spoken

    def _tell(self, scope: Scope, passage: GuardedRequest) -> None:
        path = scope["path"] if scope["path"] in self.rules.answering else "other"
        route = getattr(scope.get("route"), "path", path)
        seconds = time.monotonic() - passage.began
        self.metrics.answer(route, passage.status, seconds, passage.reason)
        facts = {
            "request_id": passage.id,
            "route": route,
            "status": passage.status,
            "ms": round(seconds * 1000, 1),
            "reason": passage.reason,
        } | scope["state"].get("facts", {})
        # These come by the thousand; /metrics counts them.
        quiet = passage.status == 429 or (route in QUIET and passage.status == 200)
        log.log(logging.DEBUG if quiet else logging.INFO, "request", extra={"facts": facts})


def _name(host: str) -> str:
    """Return the name in a Host header, without its port; empty when it is none."""
    try:
        parsed = urlsplit(f"//{host}")
        return (parsed.hostname or "") if parsed.netloc == host and "@" not in host else ""
    except ValueError:
        return ""


def _too_long(most: int) -> RequestRefusalError:
    return RequestRefusalError(
        413, "body_too_long", f"a request is at most {most:,} bytes", limit=most
    )


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives `body`, then what `receive` does: that the client left."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def _drain(receive: Receive, most: int) -> None:
    """Throw a little away: a connection closed with bytes unread takes the answer back (RST)."""
    read = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while read < LINGER * most and (message := await receive())["type"] == "http.request":
                read += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
