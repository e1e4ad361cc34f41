"""Uvicorn as the service needs it: slow headers cut off, an exit of 0 when told to end."""

import asyncio
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError
from sem.lm.api import redact
from sem.optimizer.model.fast_rewriter import Engine
from sem.optimizer.server import app, config, network
from sem.optimizer.server.config import ServeSettings
from sem.optimizer.server.service import Service

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


def to_stderr() -> None:
    """Send what the service, its libraries and Python's warnings say to stderr as JSON lines."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of loading: no JSON
    logging.captureWarnings(True)
    spoken = logging.StreamHandler(sys.stderr)
    spoken.setFormatter(AsJson())
    for name in ("sem.serve", "uvicorn.error", "asyncio", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [spoken], False
        logger.setLevel(logging.INFO if name == "sem.serve" else logging.WARNING)


# Threads of the interpreter change over this often: by default 5 ms, which a short answer of
# the event loop would wait for whenever another thread tokenizes.
SWITCH_S = 0.0005


def serve_http(
    settings: ServeSettings, root: Path, name: str | None, say: Callable[[str], None]
) -> None:
    """Serve the optimizer `name` of the tree `root` until SIGTERM; `say` hears the address.

    It does not return: the process ends with exit code 0.
    """
    key = config.api_key(settings)
    to_stderr()
    sys.setswitchinterval(SWITCH_S)
    engine = Engine(settings.weights, settings.threads)
    service = Service(settings, root, partial(network.load_served_network, root, name, engine))
    bound = _bound(settings)
    host, port = bound.getsockname()[:2]
    say(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    server = _server(settings, app.build_app(service, key))
    # Uvicorn raises the signal again when it is done; by default that is an exit of -15.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[bound])
    counts = {"accepted": _count(service, "accepted"), "answered": _count(service, "answered")}
    logging.getLogger("sem.serve").info("ended", extra={"facts": counts})
    logging.shutdown()
    sys.stdout.flush()
    # The interpreter takes seconds to take the libraries apart; there is nothing left to lose.
    os._exit(0)


def _count(service: Service, name: str) -> int:
    value = service.metrics.registry.get_sample_value(f"sem_optimizer_{name}_total")
    return int(value or 0)


def _bound(settings: ServeSettings) -> socket.socket:
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
            "name another port: --set serve.port=8001, or stop the program that uses this one",
        ) from error
    return listener


def _server(settings: ServeSettings, application: Any) -> Any:
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
