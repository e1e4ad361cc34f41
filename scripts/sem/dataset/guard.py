"""A parser in a cage: pages are simplified in worker processes that a bomb may kill.

Parsers take quadratic time on deep nesting and on many attributes (360 kB of `<div>`: 17 s).
A linear scan refuses those first; a processor-time limit and a memory limit end the rest, and
only the one worker with it. Frames between processes are JSON, never pickle.
"""

import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from sem.dataset import text, words
from sem.dataset.config import Clean, Pii, TaskOptions

Context = TypeVar("Context")

SCRIPTS = Path(__file__).resolve().parents[2]
SERVE = "from sem.dataset.guard import serve; serve()"
TAG = re.compile(r"<(?:(/?)([a-zA-Z][a-zA-Z0-9:-]*)([^<>]*)>|!--)")
NOT_NESTING = words.to_set(
    "area base br col embed hr img input link meta source track wbr param p li td th tr option "
    "dt dd thead tbody tfoot colgroup caption rp rt html body head"
)
RAW_TEXT = frozenset(("script", "style", "textarea", "title", "xmp", "iframe", "noframes"))
# Of the wall clock; many times the processor time, so that a busy machine rejects nothing.
WALL_FACTOR = 15
REPLACEMENT_SHARE = 0.01


@dataclass(frozen=True)
class Job:
    """One page to simplify, and the reference whose survival is measured, None for no measure."""

    page: str
    options: TaskOptions
    budget: int | None
    reference: Any = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a text with its report, or the reason why there is none."""

    text: str = ""
    language: str = ""
    report: dict[str, int] | None = None
    survival: dict[str, list[int]] | None = None
    reason: str | None = None


def fault(page: str, limits: Clean) -> str | None:
    """The reason to refuse PAGE before it is parsed, None when it looks harmless. Linear time."""
    if page.count("\N{REPLACEMENT CHARACTER}") > max(20, REPLACEMENT_SHARE * len(page)):
        return "page_undecodable"
    depth = position = 0
    while match := TAG.search(page, position):
        position = match.end()
        closing, name, rest = match.groups()
        if name is None:
            position = text.end_of(page, "!--", position)
            continue
        name = name.lower()
        if closing:
            depth -= depth > 0 and name not in NOT_NESTING
            continue
        if len(rest) > limits.max_attributes and len(rest.split()) > limits.max_attributes:
            return "page_attributes"
        if name in RAW_TEXT:
            position = text.end_of(page, name, position)
        elif name not in NOT_NESTING and not rest.endswith("/"):
            depth += 1
            if depth > limits.max_depth:
                return "page_depth"
    return None


class Pool:
    """A few workers; use it as a context manager."""

    def __init__(self, limits: Clean) -> None:
        self._limits = limits
        self._workers = [_Worker(limits) for _ in range(max(1, limits.workers))]

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def map(
        self, jobs: Iterable[tuple[Context, Job | None]]
    ) -> Iterator[tuple[Context, Outcome | None]]:
        """The outcome of every job, in order; a job that is None passes through."""
        waiting: deque[tuple[Context, _Worker | None, Outcome | None]] = deque()
        free = deque(self._workers)
        for context, job in jobs:
            refused = self._refused(job)
            if job is None or refused is not None:
                waiting.append((context, None, refused))
            else:
                while not free:
                    yield from self._oldest(waiting, free)
                worker = free.popleft()
                worker.send(job)
                waiting.append((context, worker, None))
            while waiting and waiting[0][1] is None:
                yield from self._oldest(waiting, free)
        while waiting:
            yield from self._oldest(waiting, free)

    def _oldest(self, waiting: Any, free: Any) -> Iterator[Any]:
        context, worker, outcome = waiting.popleft()
        if worker is not None:
            outcome = worker.receive()
            free.append(worker)
        yield context, outcome

    def _refused(self, job: Job | None) -> Outcome | None:
        limit = self._limits.max_bytes
        if job is None or len(job.page) * 4 <= limit:
            return None
        is_large = len(job.page) > limit or len(job.page.encode("utf-8", "replace")) > limit
        return Outcome(reason="page_size") if is_large else None


class _Worker:
    """One process that simplifies a page at a time and is started anew after it was killed."""

    def __init__(self, limits: Clean) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._job: dict[str, Any] = {}
        self._again = True

    def send(self, job: Job) -> None:
        self._job = asdict(job)
        self._again = True
        self._send()

    def _send(self) -> None:
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        _write(self._process.stdin, self._job)

    def receive(self) -> Outcome:
        assert self._process is not None
        assert self._process.stdout is not None
        answer = _read(self._process.stdout)
        if answer is not None:
            return Outcome(**answer)
        code = self._process.wait()
        self.stop()
        if code in (-signal.SIGPROF, -signal.SIGALRM):
            return Outcome(reason="page_timeout")
        if not self._again:
            return Outcome(reason="page_crash")
        # Once more: somebody else may have killed the worker, and the page is innocent.
        self._again = False
        self._send()
        return self.receive()

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
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        _write(process.stdin, asdict(self._limits))
        if _read(process.stdout) is None:
            raise RuntimeError("the page worker does not start: import sem.dataset.markup by hand")
        return process


def serve() -> None:
    """Simplify pages from stdin until it ends; the limits come first. Runs in the worker."""
    from sem.dataset import grounding, markup

    given = _read(sys.stdin.buffer) or {}
    pii = Pii(**given.pop("pii", {}))
    limits = Clean(**{**given, "default": TaskOptions(), "tasks": {}, "pii": pii})
    cap = limits.memory_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    markup.simplify("<p>warm</p>")
    _write(sys.stdout.buffer, {})
    while (request := _read(sys.stdin.buffer)) is not None:
        # The default action of both signals ends the process even inside the C parser.
        signal.setitimer(signal.ITIMER_PROF, limits.deadline_s)
        signal.setitimer(signal.ITIMER_REAL, limits.deadline_s * WALL_FACTOR)
        answer = _answer(request, limits, markup, grounding)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(sys.stdout.buffer, answer)


def _answer(request: dict[str, Any], limits: Clean, markup: Any, grounding: Any) -> dict[str, Any]:
    page, options = request["page"], TaskOptions(**request["options"])
    try:
        if options.input != "text" and (reason := fault(page, limits)):
            return {"reason": reason}
        made = markup.simplify(page, options, request["budget"])
        wanted = request["reference"]
        survival = grounding.survival(wanted, page, made.text) if wanted is not None else {}
    except MemoryError:
        return {"reason": "page_memory"}
    return {
        "text": made.text,
        "language": made.language,
        "report": made.report,
        "survival": survival,
    }


def _write(pipe: IO[bytes], value: dict[str, Any]) -> None:
    # BrokenPipe: the worker died; its exit code is read where its answer is awaited.
    body = json.dumps(value).encode("ascii")
    try:
        pipe.write(struct.pack(">Q", len(body)) + body)
        pipe.flush()
    except BrokenPipeError:
        return


def _read(pipe: IO[bytes]) -> dict[str, Any] | None:
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size = struct.unpack(">Q", head)[0]
    body = pipe.read(size)
    return json.loads(body) if len(body) == size else None
