"""A parser in a cage: pages and rows are worked on in processes that a bomb may kill.

Parsers take quadratic time on deep nesting and on many attributes (360 kB of `<div>`: 17 s).
A linear scan refuses those first; a processor-time limit and a memory limit end the rest, and
only the one worker with it. Frames between processes are JSON, never pickle.
"""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sem.core.project import ROOT
from sem.dataset.clean import frames
from sem.dataset.clean.row_cleaning import CleanedRow, CleaningPlan
from sem.dataset.config import Clean, TaskOptions
from sem.dataset.store.examples_table import RawRow

Context = TypeVar("Context")

SERVE = "from sem.dataset.clean.row_worker import serve_rows; serve_rows()"
# Share of memory_mib beyond which a worker is started anew after a page.
RETIRED_AT = 0.6
# Thread pools of numerical libraries map hundreds of megabytes that a worker never uses.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class PageJob:
    """One page to simplify, and the reference whose survival is measured, None for no measure."""

    page: str
    options: TaskOptions
    budget: int | None
    reference: Any = None

    @property
    def text(self) -> str:
        """Return what the size limit is about."""
        return self.page

    def request(self) -> dict[str, Any]:
        return asdict(self)

    def outcome(self, answer: dict[str, Any]) -> "PageOutcome":
        """Return what a worker's `answer` says."""
        return PageOutcome(**answer)

    def parts(self) -> list["PageJob"]:
        """Smaller jobs to try when a worker died of this one."""
        return []


@dataclass(frozen=True)
class RowsJob:
    """Stored rows to clean, a few small ones or one large; the pool must have a plan."""

    rows: tuple[RawRow, ...]

    @property
    def text(self) -> str:
        return (self.rows[0].input_text or "") if len(self.rows) == 1 else ""

    def request(self) -> dict[str, Any]:
        return {"rows": [vars(row) for row in self.rows]}

    def outcome(self, answer: dict[str, Any]) -> list[CleanedRow]:
        """Return what each row became."""
        if "made" not in answer:
            return [CleanedRow(**answer) for _ in self.rows]
        return [CleanedRow(**fields) for fields in answer["made"]]

    def parts(self) -> list["RowsJob"]:
        return [RowsJob((row,)) for row in self.rows] if len(self.rows) > 1 else []


@dataclass(frozen=True)
class PageOutcome:
    """What became of a job: a text with its report, or the reason why there is none."""

    text: str = ""
    language: str = ""
    report: dict[str, int] | None = None
    survival: dict[str, list[int]] | None = None
    reason: str | None = None


class Pool:
    """A few workers; use it as a context manager. Rows need a `plan`, pages only `limits`."""

    def __init__(self, limits: Clean, plan: CleaningPlan | None = None) -> None:
        self._limits = limits
        start = {"limits": asdict(limits), "plan": plan and plan.as_json()}
        self._workers = [WorkerProcess(start) for _ in range(max(1, limits.workers))]

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def map(self, jobs: Iterable[tuple[Context, Any]]) -> Iterator[tuple[Context, Any]]:
        """Yield the outcome of every Job or RowsJob, in order.

        A job that is None passes through.
        """
        waiting: deque[tuple[Context, Any, WorkerProcess | None, Any]] = deque()
        free = deque(self._workers)
        for context, job in jobs:
            refused = self._refused(job)
            if job is None or refused is not None:
                waiting.append((context, job, None, refused))
            else:
                while not free:
                    yield self._oldest(waiting, free)
                worker = free.popleft()
                worker.send(job.request())
                waiting.append((context, job, worker, None))
            while waiting and waiting[0][2] is None:
                yield self._oldest(waiting, free)
        while waiting:
            yield self._oldest(waiting, free)

    def _oldest(self, waiting: Any, free: Any) -> tuple[Any, Any]:
        context, job, worker, outcome = waiting.popleft()
        if worker is not None:
            outcome = _outcome(job, worker)
            free.append(worker)
        return context, outcome

    def _refused(self, job: Any) -> Any:
        limit = self._limits.max_bytes
        if job is None or len(job.text) * 4 <= limit:
            return None
        is_large = len(job.text) > limit or len(job.text.encode("utf-8", "replace")) > limit
        return job.outcome({"reason": "page_size"}) if is_large else None


def _outcome(job: Any, worker: "WorkerProcess") -> Any:
    """Return what `worker` answers to `job`, which it was sent.

    A batch it died of is done row by row.
    """
    answer = worker.receive()
    parts = job.parts() if "reason" in answer and "made" not in answer else []
    if not parts:
        return job.outcome(answer)
    outcomes = []
    for part in parts:
        worker.send(part.request())
        outcomes += part.outcome(worker.receive())
    return outcomes


class WorkerProcess:
    """One process that does a job at a time and is started anew after it was killed.

    It runs the code `serve`, which reads `start` (`limits.memory_mib` in it) and then jobs as
    frames.
    """

    def __init__(self, start: dict[str, Any], serve: str = SERVE) -> None:
        self._setup = start
        self._serve = serve
        self._limit = start["limits"]["memory_mib"] << 20
        self._process: subprocess.Popen[bytes] | None = None
        self._job: dict[str, Any] = {}
        self._again = True

    def send(self, job: dict[str, Any]) -> None:
        self._job, self._again = job, True
        self._send()

    def _send(self) -> None:
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        frames.write_frame(self._process.stdin, self._job)

    def receive(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        answer = frames.read_frame(self._process.stdout)
        if answer is not None:
            self._retire()
            return answer
        code = self._process.wait()
        self.stop()
        if code in (-signal.SIGPROF, -signal.SIGALRM):
            return {"reason": "page_timeout"}
        if not self._again:
            return {"reason": "page_crash"}
        # Once more: somebody else may have killed the worker, and the page is innocent.
        self._again = False
        self._send()
        return self.receive()

    def _retire(self) -> None:
        """Stop a process that a large page left bloated: the next page starts in a fresh one."""
        assert self._process is not None
        if frames.process_memory(self._process.pid)[1] > RETIRED_AT * self._limit:
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
            [sys.executable, "-P", "-c", self._serve],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        frames.write_frame(process.stdin, self._setup)
        if frames.read_frame(process.stdout) is None:
            raise RuntimeError(
                "the page worker does not start: import sem.dataset.clean.row_cleaning by hand"
            )
        return process
