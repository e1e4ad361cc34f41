"""Uvicorn as a server here needs it: slow headers cut off, an exit of 0 when told to end."""

import asyncio
import logging
import os
import signal
import socket
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, NoReturn

from sem.core import jsonio
from sem.core.errors import SemError
from sem.lm.api import redact
from sem.lm.server.metrics import Metrics
from sem.lm.server.settings import HttpSettings

# Threads of the interpreter change over this often: by default 5 ms, which a short answer of
# the event loop would wait for whenever another thread tokenizes.
SWITCH_S = 0.0005

# One JSON object a line on stderr: what was asked and how it ended, never what a prompt says.


class AsJson(logging.Formatter):
    """A record as one line of canonical JSON, keys redacted."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "level": record.levelname.lower(), "event": record.getMessage()}
        entry |= getattr(record, "facts", {})
        if record.exc_info:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return redact.redact_secrets(jsonio.canonical_json(entry))


def prepare_process() -> None:
    """Send what the service, its libraries and Python's warnings say to stderr as JSON lines."""
    # A bar of loading would be no JSON.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.captureWarnings(True)
    spoken = logging.StreamHandler(sys.stderr)
    spoken.setFormatter(AsJson())
    for name in ("sem.serve", "uvicorn.error", "asyncio", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [spoken], False
        logger.setLevel(logging.INFO if name == "sem.serve" else logging.WARNING)
    sys.setswitchinterval(SWITCH_S)


def run_until_ended(application: Any, settings: HttpSettings, listener: socket.socket) -> None:
    """Serve `application` on `listener` until SIGTERM or SIGINT; what was accepted is answered."""
    # Uvicorn raises the signal again when it is done; by default that is an exit of -15.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    http_server(settings, application).run(sockets=[listener])


def end_process(metrics: Metrics) -> NoReturn:
    """Log what was accepted and answered, and end the process with exit code 0."""
    counts = {"accepted": metrics.total("accepted"), "answered": metrics.total("answered")}
    logging.getLogger("sem.serve").info("ended", extra={"facts": counts})
    logging.shutdown()
    sys.stdout.flush()
    # The interpreter takes seconds to take the libraries apart; there is nothing left to lose.
    os._exit(0)


def listener_url(listener: socket.socket) -> str:
    """Return the address that `listener` is asked at."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def open_listener(settings: HttpSettings) -> socket.socket:
    """Return a socket at the address of `settings`; raise SemError when another process has it."""
    try:
        addresses = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = addresses[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Who asks from now on waits, and is not refused.
        listener.listen(settings.max_connections)
    except OSError as error:
        raise SemError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            f"name another port: --set {settings.PREFIX}.port=8001, "
            "or stop the program that uses this one",
        ) from error
    return listener


def http_server(settings: HttpSettings, application: Any) -> Any:
    """Return the uvicorn server of `application`."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=_protocol(settings.read_timeout_s),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=settings.max_connections,
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=settings.drain_s,
        )
    )


def _protocol(read_timeout_s: float) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP/1.1, which waits `read_timeout_s` for a request's headers and no longer.

    Uvicorn itself waits for ever (Kludex/uvicorn#157): a few hundred clients that send a byte a
    minute would hold every connection.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Hurried(H11Protocol):
        _waits: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                # The guard has its own deadline for the body.
                self._expect_no_more()
            elif self._waits is None:
                self._expect()

        def on_response_complete(self) -> None:
            self._expect_no_more()
            super().on_response_complete()
            # Of a next request, sent with this one.
            begun = bool(self.conn.trailing_data[0])
            if begun and self.cycle.response_complete and not self.transport.is_closing():
                self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._expect_no_more()
            super().connection_lost(exc)

        def _expect(self) -> None:
            self._waits = self.loop.call_later(read_timeout_s, self._cut)

        def _expect_no_more(self) -> None:
            if self._waits is not None:
                self._waits.cancel()
                self._waits = None

        def _cut(self) -> None:
            self._waits = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Hurried
