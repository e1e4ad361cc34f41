"""Work on what strangers wrote, in processes that a bomb may kill and nothing else with them.

A `Worker` is a process of its own that does the jobs it is sent, one at a time, within limits it
sets itself: processor and wall time a job, memory, no file written, no socket, no other process.

    def prepare_counting(setup):                 # in the worker: load what the jobs need
        return lambda job: {"words": len(job["text"].split())}

    worker = Worker(prepare_counting, {}, JobLimits(deadline_s=2.0, memory_mib=512), "page")
    worker.send({"text": page})
    worker.receive()                             # {"words": 12}, or {"reason": "page_timeout"}

`run_forked` does one job in a fork of this process: work whose libraries take seconds to load.
Frames between processes are JSON, never pickle.
"""

import importlib
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from sem.core.project import ROOT

Json = dict[str, Any]
# Returns what answers a job, and loads all of it: after it, limits count and loading may fail.
Prepare = Callable[[Json], Callable[[Json], Json]]

SERVE = "from sem.core.sandbox import serve_jobs; serve_jobs()"
# Wall time is so many times the processor time, so that a busy machine rejects nothing.
WALL_FACTOR = 15
# Of memory that a worker may always take, however much is resident when it starts.
MIN_EXTRA_BYTES = 64 << 20
# Share of memory_mib beyond which a worker is started anew after a job.
RETIRED_AT = 0.6
# Thread pools of numerical libraries map hundreds of megabytes that a worker never uses.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# What a worker sees of the environment: where programs and libraries are, languages, the clock.
# Not the rest of it: keys stand there, and what a stranger wrote may take over a parser.
INHERITED = re.compile(
    r"PATH|HOME|USER|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHON\w*"
    r"|COVERAGE_PROCESS_START|SYSTEMROOT"
)
# Audit events of what no job has a reason to do.
FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "ftplib.",
    "smtplib.",
    "urllib.",
    "http.",
    "webbrowser.",
    "ctypes.",
)


@dataclass(frozen=True)
class JobLimits:
    """What a job may cost: seconds of processor time, and MiB of memory with the libraries."""

    deadline_s: float
    memory_mib: int


class ForbiddenError(Exception):
    """A job tried what no job has a reason to do; the message is the audit event."""


class Worker:
    """One process that does a job at a time and is started anew after it was killed.

    In it `prepare`, a function of a module, gets `setup` and returns what answers a job. A job
    that ends its process is answered by a reason: that of `subject` "page" is `page_timeout` or
    `page_crash`.
    """

    def __init__(self, prepare: Prepare, setup: Json, limits: JobLimits, subject: str) -> None:
        self._setup = {
            "prepare": [prepare.__module__, prepare.__name__],
            "setup": setup,
            "limits": asdict(limits),
        }
        self._memory_bytes = limits.memory_mib << 20
        self._subject = subject
        self._process: subprocess.Popen[bytes] | None = None
        self._job: Json = {}
        self._again = True

    def send(self, job: Json) -> None:
        self._job, self._again = job, True
        self._send()

    def _send(self) -> None:
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        write_frame(self._process.stdin, self._job)

    def receive(self) -> Json:
        """Return the answer to the job that was sent, or the reason why there is none."""
        assert self._process is not None
        assert self._process.stdout is not None
        answer = read_frame(self._process.stdout)
        if answer is not None:
            self._retire()
            return answer
        code = self._process.wait()
        self.stop()
        if code in (-signal.SIGPROF, -signal.SIGALRM):
            return {"reason": f"{self._subject}_timeout"}
        if not self._again:
            return {"reason": f"{self._subject}_crash"}
        # Once more: somebody else may have killed the worker, and the job is innocent.
        self._again = False
        self._send()
        return self.receive()

    def _retire(self) -> None:
        """Stop a process that a large job left bloated: the next job starts in a fresh one."""
        assert self._process is not None
        if process_memory(self._process.pid)[1] > RETIRED_AT * self._memory_bytes:
            self.stop()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()
        self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_worker_environment(),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        write_frame(process.stdin, self._setup)
        if read_frame(process.stdout) is None:
            module, name = self._setup["prepare"]
            raise RuntimeError(f"the {self._subject} worker does not start: {module}.{name} fails")
        return process


def _worker_environment() -> dict[str, str]:
    inherited = {name: v for name, v in os.environ.items() if INHERITED.fullmatch(name)}
    return {**inherited, **ONE_THREAD, "PYTHONPATH": str(ROOT)}


def serve_jobs() -> None:
    """Answer jobs from stdin until it ends; the setup of a `Worker` comes first. Runs in it."""
    frame = read_frame(sys.stdin.buffer) or {}
    module, name = frame["prepare"]
    answer = getattr(importlib.import_module(module), name)(frame["setup"])
    limits = JobLimits(**frame["limits"])
    confine_process((limits.memory_mib << 20) - process_memory()[1])
    # No file: what it answers goes through a pipe.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(_forbid)
    write_frame(sys.stdout.buffer, {})
    while (job := read_frame(sys.stdin.buffer)) is not None:
        set_timers(limits.deadline_s)
        result = answer(job)
        set_timers(0)
        write_frame(sys.stdout.buffer, result)


def run_forked(work: Callable[[], Json], deadline_s: float, extra_bytes: int) -> Json | None:
    """Return what `work` returns, done in a fork of this process; None when it did not come back.

    The fork may use `deadline_s` of processor time, and `extra_bytes` of memory beyond what this
    process has mapped.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work_and_exit(work, writer, deadline_s, extra_bytes)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = read_frame(pipe)
    os.waitpid(child, 0)
    return result


def _work_and_exit(
    work: Callable[[], Json], writer: int, deadline_s: float, extra_bytes: int
) -> NoReturn:
    try:
        # What this process does about signals is not for its fork.
        for number in (signal.SIGINT, signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        set_timers(deadline_s)
        confine_process(extra_bytes)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        with os.fdopen(writer, "wb") as pipe:
            write_frame(pipe, work())
        os._exit(0)
    except BaseException:
        os._exit(1)


def confine_process(extra_bytes: int) -> None:
    """Let this process map `extra_bytes` more, and leave no core."""
    # Libraries map far more than they use, so the cap counts from what is mapped by now.
    mapped = process_memory()[0]
    cap = mapped + max(MIN_EXTRA_BYTES, extra_bytes)
    if mapped:
        resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def set_timers(seconds: float) -> None:
    """End this process after so many more `seconds` of processor time; 0 for no end."""
    # The default action of both signals ends the process even inside a parser written in C.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * WALL_FACTOR)


def _forbid(event: str, _: Any) -> None:
    if event.startswith(FORBIDDEN):
        raise ForbiddenError(event)


def write_frame(pipe: IO[bytes], value: Json) -> None:
    """Send `value` through `pipe` as one frame: a length and JSON."""
    # BrokenPipe: the worker died; its exit code is read where its answer is awaited.
    body = json.dumps(value).encode("ascii")
    with suppress(BrokenPipeError):
        pipe.write(struct.pack(">Q", len(body)) + body)
        pipe.flush()


def read_frame(pipe: IO[bytes]) -> Json | None:
    """Return the next frame of `pipe`; None when it ended."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size = struct.unpack(">Q", head)[0]
    body = pipe.read(size)
    return json.loads(body) if len(body) == size else None


def process_memory(pid: int | str = "self") -> tuple[int, int]:
    """Bytes that process `pid` has mapped and has resident; (0, 0) where /proc does not tell."""
    try:
        mapped, resident = Path(f"/proc/{pid}/statm").read_text().split()[:2]
    except OSError:
        return 0, 0
    return int(mapped) * resource.getpagesize(), int(resident) * resource.getpagesize()
