"""A check in a process of its own, which a hostile file can stop and nothing else.

Chat templates are programs, and a config can ask for a million layers: both are tried where
processor time and memory have an end.
"""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

CPU_S = 30
# a busy machine is not an attack.
WALL_S = 300
EXTRA_BYTES = 4 << 30
TOO_MUCH = "a check took more time or memory than any package needs"


def run_check(check: Callable[[], list[str]]) -> list[str]:
    """Return the lines of `check`, run in a child; a line as well when it does not come back."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(check, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        return [TOO_MUCH]
    return [str(line) for line in json.loads(raw)]


def _answer(check: Callable[[], list[str]], writer: int) -> None:
    """Write what `check` returns and end this process, whatever happens."""
    try:
        _confine()
        lines = check()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(lines).encode())
        os._exit(0)
    except BaseException:
        os._exit(1)


def _confine() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL_S)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        mapped = int(statm.read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (mapped + EXTRA_BYTES, mapped + EXTRA_BYTES))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    # A pool of threads does not survive a fork: what it would do is done by this one.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(1)
