"""Start the processes of one run on this machine, and end with the code that tells the most."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sem.core import console
from sem.core.errors import SemError

# After a checkpoint: the others are about to end by themselves.
STOPPED = (75, 130)
GRACE_S = 60.0
LOOK_S = 0.1


def start_processes(argv: Sequence[str], count: int) -> int:
    """Run `argv` in `count` Python processes, as torchrun would.

    Return 0, or the first exit code that is not 0.

    A process that fails takes the others with it: they would wait for it for ever.
    """
    check_process_count(count)
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    children: list[subprocess.Popen[bytes]] = []
    with passed_on(children):
        for rank in range(count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            out = None if rank == 0 else subprocess.DEVNULL
            children.append(
                subprocess.Popen(
                    [sys.executable, *argv], env={**os.environ, **shared, **own}, stdout=out
                )
            )
        return wait_for_children(children)


def check_process_count(count: int) -> None:
    """Raise SemError when so many processes make no sense."""
    if not 2 <= count <= 64:
        raise SemError(f"--processes {count}", "start one for each GPU, 2 to 64")


def wait_for_children(children: Sequence[Any]) -> int:
    """Wait for `children`, told as subprocess.Popen tells them; the code that tells the most."""
    while True:
        codes = [child.poll() for child in children]
        if all(code == 0 for code in codes):
            return 0
        failed = [(rank, code) for rank, code in enumerate(codes) if code]
        if failed:
            rank, code = failed[0]
            _ended(children, GRACE_S if code in STOPPED else 0.0)
            if code not in STOPPED:
                console.print_note(
                    f"process {rank} of {len(children)} exited with {code}: all are stopped"
                )
            return code if code > 0 else 128 - code
        time.sleep(LOOK_S)


def _ended(children: Sequence[Any], grace_s: float) -> None:
    until = time.monotonic() + grace_s
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def passed_on(children: Sequence[Any]) -> Iterator[None]:
    """SIGTERM and SIGINT go to `children`, which write a checkpoint and end."""

    def hand_on(kind: int, _: Any) -> None:
        for child in children:
            # ^C of a terminal reaches the whole group already.
            if child.poll() is None and not (kind == signal.SIGINT and sys.stdin.isatty()):
                child.send_signal(kind)

    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.signal(kind, hand_on) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
