"""Pages without a reference, cleaned as rows of the store are, in sandboxed processes.

What a package reads is what its model was trained on: the same cleaner, settings and budgets.
"""

from collections.abc import Callable
from queue import LifoQueue
from typing import Any

from sem.core import sandbox
from sem.dataset.clean.row_cleaning import CleaningPlan, ReadPage, RowCleaner, plan_of
from sem.dataset.html import markup


class PageReader:
    """`workers` processes that read pages by `plan`; a context manager, safe for threads."""

    def __init__(self, plan: CleaningPlan, workers: int = 1) -> None:
        self._max_bytes = plan.clean.max_bytes
        limits = sandbox.JobLimits(plan.clean.deadline_s, plan.clean.memory_mib)
        setup = {"plan": plan.as_json()}
        # The one that was used last first: pages read in turn start one process.
        self._free: LifoQueue[sandbox.Worker] = LifoQueue()
        self._workers = [
            sandbox.Worker(load_page_reader, setup, limits, "page") for _ in range(max(1, workers))
        ]
        for worker in self._workers:
            self._free.put(worker)

    def __enter__(self) -> "PageReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes; a page read later starts them again."""
        for worker in self._workers:
            worker.stop()

    def read(self, task: str, page: str, meta: dict[str, Any] | None = None) -> ReadPage:
        """Return `page`, a prompt for `task`, as the model sees it, or why it cannot be read.

        `meta` may hold `url` and `page_type`, on which budgets and telephone numbers depend.
        """
        if len(page) > self._max_bytes:
            return ReadPage(reason="page_size", detail=f"more than {self._max_bytes:,} bytes")
        worker = self._free.get()
        try:
            worker.send({"task": task, "page": page, "meta": meta or {}})
            answer = worker.receive()
        finally:
            self._free.put(worker)
        return ReadPage(**answer)


def load_page_reader(setup: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what reads a page by the plan in `setup`. Runs in a worker."""
    plan = plan_of(setup["plan"])
    cleaner = RowCleaner(plan, lambda: sandbox.set_timers(plan.clean.deadline_s))
    markup.simplify_page("<p>warm</p>")
    return lambda job: vars(cleaner.read_page(job["task"], job["page"], job["meta"]))
