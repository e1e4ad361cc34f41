"""Every job of this repository, as `fab GROUP.JOB`.

The jobs are the functions of sem/jobs: their signatures are the flags. A job builds one list of
arguments and hands it to scripts/GROUP_JOB.py, so whatever Fabric does can also be done by hand,
from cron or over SSH. Nothing heavier than Fabric is imported here.

    fab demo                             the main path on the embedded data
    fab dataset.clean dataset.split      jobs chain, left to right; the first failure stops
    fab train.run --sem shop             any project under configs/
    fab --dry train.run                  print the command, run nothing
    fab -H me@gpu train.run              train on a host (docs/hosts.md)
"""

import os
import sys
from pathlib import Path

from fabric import task
from invoke import Exit

# Also when this file is loaded by path.
sys.path.insert(0, str(Path(__file__).resolve().parent))
from fabjobs import ROOT, answer_help, answer_list, collect, command, refuse_hosts, task_of
from sem.jobs import load_jobs

# In the order in which a user meets them.
GROUPS = {
    "demo": "The embedded example.",
    "sem": "Projects side by side.",
    "env": "The Python environment and the base weights.",
    "dataset": "Import, clean, split and describe examples.",
    "forge": "Make examples of documents.",
    "golden": "Hand-made questions with their answers.",
    "train": "Fine-tune an adapter.",
    "eval": "Generate answers, report on them, decide on promotion.",
    "package": "Export and verify the deliverable.",
    "ops": "Budgets, promotion, the nightly check, backfills.",
    "preview": "What a contribution of data is worth.",
    "optimizer": "A small network that rewrites vague prompts.",
}

# Of the suite, whole files each: twice the two cores, as many tests wait for other processes.
PROCESSES = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]


@task(help={"slow": "the tests that take minutes, and only these"})
def check(c, slow=False):
    """Lint, check types and test, as CI does."""
    refuse_hosts(c)
    python, root = [sys.executable, "-m"], str(ROOT)
    tests = ["pytest", "-c", f"{root}/pyproject.toml", "--rootdir", root, f"{root}/tests"]
    # No cache: whether a module is ours depends on files that it does not look at.
    steps = [
        [*python, "ruff", "check", "--no-cache", root],
        [*python, "ruff", "format", "--check", root],
        *([] if slow else [[*python, "mypy", "--config-file", f"{root}/pyproject.toml"]]),
        [*python, *tests, "-rs", *(["-m", "slow"] if slow else PROCESSES)],
    ]
    # Where no bytecode is written, every process compiles the library again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    failed = 0
    # Each one is told, also when an earlier one fails.
    for step in steps:
        result = c.run(command(step, {}), warn=True, pty=sys.stdout.isatty(), in_stream=False)
        failed = failed or result.exited
    if failed:
        raise Exit(code=1)


jobs = load_jobs()
ns = collect(jobs, GROUPS)
ns.add_task(task_of(jobs["pipeline"]))
ns.add_task(check)
answer_help(ns)
answer_list(ns, GROUPS)
