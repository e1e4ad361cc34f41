"""Ports that a page or a default names: one test at a time, on a machine where they are free.

with fixed_ports(8000, 8080):
    ...
"""

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

# Another test's turn takes minutes.
TURN_S = 1_500
FREE_WITHIN_S = 60


@contextmanager
def fixed_ports(*numbers: int) -> Iterator[None]:
    """Hold the turn of `numbers` on this machine; skip where another program listens there."""
    with ExitStack() as turns:
        for number in sorted(numbers):
            lock = Path(tempfile.gettempdir()) / f"sem-tests-port-{number}.lock"
            turns.enter_context(FileLock(lock, timeout=TURN_S))
        for number in numbers:
            _wait_until_free(number)
        yield


def _wait_until_free(number: int) -> None:
    end = time.monotonic() + FREE_WITHIN_S
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
                return
            except OSError:
                if time.monotonic() > end:
                    pytest.skip(f"another program listens on port {number}")
        time.sleep(0.5)
