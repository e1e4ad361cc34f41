"""Every job of the project: what scripts, `fab`, `opensem` and the reference page are made of."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from sem.core import console
from sem.jobs.job import JOBS, Job


def load_jobs() -> dict[str, Job]:
    """Return every job by its name, in the order in which a user meets them."""
    from sem.jobs import (
        dataset,
        evaluation,
        forge,
        ops,
        optimizer,
        package,
        path,
        pipeline,
        preview,
        project,
        serving,
        train,
    )

    modules = (project, dataset, forge, train, evaluation, package, serving, pipeline, path)
    # Not the order in which they registered: whoever imports one of them first changes that.
    return {
        job.name: job
        for module in (*modules, ops, preview, optimizer)
        for job in JOBS.values()
        if job.function.__module__ == module.__name__
    }


def run_job(name: str, words: Sequence[str] | None = None, program: str | None = None) -> NoReturn:
    """Run the job `name` on the words of the command line and leave with its exit code."""
    job = load_jobs()[name]
    console.run_main(lambda: job.call(sys.argv[1:] if words is None else words, program))
