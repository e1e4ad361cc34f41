"""The jobs of `ops.*`: budgets, promotion, the nightly check, backfills, rented GPUs."""

import os
import secrets
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from sem.core import console, files, provenance
from sem.core.errors import Busy, SemError
from sem.core.project import Project
from sem.core.run import find_run
from sem.jobs.job import BareValue, Overrides, RunId, Sem, Split, job


@job("ops.promote")
def promote_run(
    sem: Sem = None,
    run: RunId = None,
    reason: Annotated[str | None, "why it serves without a passed gate or parity"] = None,
    runtime: Annotated[str, "what will serve it, as `package.parity` names it"] = "transformers",
    set: Overrides = (),
) -> None:
    """Name the run that serves: nightly watches it and later runs are compared with it.

        fab ops.promote --sem shop --run RUN
        fab ops.promote --sem shop --run RUN --runtime llamacpp

    Needs a gate verdict PASS (`fab eval.gate`) of this run on the test set, by today's policy and
    in the ledger of gates, and a PASS of its package in the runtime that will serve
    (`fab package.parity`); or a --reason that is written down.

    Reads   reports/SEM/RUN/{gate,parity}.json, reports/SEM/gates.jsonl, gate.yaml,
            models/SEM/packages/RUN/manifest.json
    Writes  models/SEM/{promoted.json, promotions.jsonl}
    """
    from sem.ops import promote

    project = Project.load(sem, set)
    promoted = promote.promote_tested_run(project, run, reason, provenance.utc_now(), runtime)
    console.print_note(f"{promoted} is promoted")
    console.print_output_path(project.promoted)


@job("ops.rollback")
def take_back_run(
    reason: Annotated[str, "why, for whoever reads the history"],
    sem: Sem = None,
    to: Annotated[str | None, "a run that served (default: the one before)"] = None,
) -> None:
    """Let the run that served before serve again, and write down who wanted it, when and why.

        fab ops.rollback --sem shop --reason "prices are wrong"
        fab ops.rollback --sem shop --to RUN --reason "the last one that knew currencies"

    A run served when it was promoted once, so no gate is asked. A tainted run, or one that is no
    longer there, does not serve again.

    Reads   models/SEM/{promoted.json, promotions.jsonl}
    Writes  models/SEM/{promoted.json, promotions.jsonl}
    """
    from sem.ops import promotion_history

    project = Project.load(sem)
    served = promotion_history.roll_back(project, to, reason, provenance.utc_now())
    console.print_note(f"{served} is promoted again")
    console.print_output_path(project.promoted)


@job("ops.history")
def show_promotions(sem: Sem = None) -> None:
    """Show which run served from when on, who promoted it, and why.

        fab ops.history --sem shop

    Reads   models/SEM/{promoted.json, promotions.jsonl}
    Writes  models/SEM/promotions.jsonl, where a killed promotion is not in it
    """
    from sem.ops import promotion_history

    project = Project.load(sem)
    entries = promotion_history.read_history(project)
    rows = promotion_history.history_rows(entries)
    console.print_table(f"promotions of {project.sem}", promotion_history.COLUMNS, rows)


@job("ops.nightly")
def check_promoted_run(
    sem: Sem = None,
    again: Annotated[bool, "also when this date has run"] = False,
    set: Overrides = (),
) -> None:
    """Let the promoted run answer again, compare it with its record, and alert if it got worse.

        fab ops.nightly --sem shop            (from cron: `fab ops.install_cron`)

    Runs once a UTC date, however often it is started, and once at a time; a night that failed is
    tried again by the next start, and alerts again only when it fails otherwise. Exit 0: as it
    was, done before, or running elsewhere. Exit 1: worse or failed; reports/SEM/nightly/ALERT.json
    says why, and $SEM_WEBHOOK_URL gets it, signed with $SEM_WEBHOOK_SECRET.

    Reads   models/SEM/promoted.json, the run's snapshot, data/SEM/golden/,
            configs/SEM/nightly.yaml
    Writes  reports/SEM/nightly/{DATE/, record/, history.jsonl, ALERT.json}
    """
    from sem.ops import nightly

    os.umask(0o077)  # answers and verdicts may quote private pages
    desk, at = nightly.load_nightly_folder(Project.load(sem, set)), provenance.utc_now()
    try:
        with files.lock_file(desk.folder / ".lock", "the nightly run"):
            status = nightly.status_of_night(desk, at)
            if status and not again:
                console.print_note(f"{at:%Y-%m-%d} has run already, {status}: {desk.history}")
                return
            if again:
                shutil.rmtree(desk.night(at).reports, ignore_errors=True)
            night = nightly.run_night(desk, at)
    except Busy:
        console.print_note("another nightly run is in progress: nothing to do")
        return
    columns = (
        "split",
        "n",
        "slot accuracy",
        "against the record",
        "other answers",
        "changed since",
        "judge",
    )
    rows = [_nightly_row(name, split) for name, split in night["splits"].items()]
    console.print_table(f"{desk.project.sem}: {night.get('run', '-')}", columns, rows)
    if night["status"] != "ok":
        why = night.get("error", "slot accuracy fell")
        raise SemError(f"nightly {night['status']}: {why}; {night['alert']}", f"see {desk.alert}")
    console.print_output_path(desk.history)


@job("ops.install_cron")
def install_cron(
    sem: Sem = None,
    write: Annotated[bool, "change this user's crontab instead of printing the line"] = False,
    set: Overrides = (),
) -> None:
    """Run ops.nightly from cron: every hour, so that a missed night is caught up.

        fab ops.install_cron --sem shop            print the line
        fab ops.install_cron --sem shop --write    put it into this user's crontab

    Writes  a marked block of this user's crontab, and nothing else
    """
    from sem.ops import cron

    project = Project.load(sem, set)
    if write:
        cron.write_crontab(project)
        console.print_note("the crontab has the line; cron's output goes to the log")
        console.print_output_path(cron.cron_log_path(project))
    else:
        print(cron.cron_line(project))


@job("ops.project_tokens")
def project_tokens(
    sem: Sem = None,
    run: RunId = None,
    split: Split = "test",
    config: Annotated[Path | None, "budget file (default: configs/budget.yaml)"] = None,
) -> None:
    """Project daily tokens against the budget; exit 1 past the alert threshold.

        fab ops.project_tokens --sem shop --run base
        fab ops.project_tokens --config usage.yaml

    Tokens per request are those measured in the answers of --run where there are any, else the
    averages of the budget file; the table says which. Of free and constrained answers those count
    that eval.yaml asks for, else the other ones.

    Reads   configs/budget.yaml, reports/SEM/RUN/answers.SPLIT.jsonl or
            answers.SPLIT.constrained.jsonl
    """
    from sem.ops import budget

    project = Project.load(sem)
    path = config or project.root / "configs" / "budget.yaml"
    settings = budget.load_budget(path)
    answers = budget.find_answers(project, run, split)
    console.print_note(f"measured tokens: {answers or 'none yet; using the profile'}")
    projection = budget.project_daily_tokens(
        settings, budget.measure_tokens(answers) if answers else {}
    )
    columns = ("page", "requests/day", "prompt", "completion", "tokens/day", "from")
    console.print_table("projected daily tokens", columns, budget.projection_rows(projection))
    if projection.is_alert:
        raise SemError(
            f"{projection.daily_tokens / 1e6:,.1f} M tokens a day is {projection.share:,.1f} x "
            f"the budget, past the alert at {projection.budget.alert_threshold:g}",
            f"lower traffic or prompt tokens, cache more, or raise daily_tokens in {path}",
        )


@job("ops.backfill")
def backfill_rows(
    sem: Sem = None,
    since: Annotated[str | None, "what the rows were made with: a snapshot or a day"] = None,
    per_minute: Annotated[int | None, "items begun a minute, by all workers"] = None,
    dry_run: Annotated[bool, "count what is touched, and stop"] = False,
    set: Overrides = (),
) -> None:
    """Bring the rows that a schema, prompt or cleaner change touches up to date, resumably.

        fab ops.backfill --sem shop --since v3 --dry-run
        fab ops.backfill --sem shop --since 2026-05-01 --per-minute 60
        fab ops.backfill --sem shop          # go on with what is queued

    Several may work on one queue. Without a strong model (configs/SEM/backfill.yaml, or the
    judge's) relabelling stays queued.

    Reads   the store, configs/SEM/{tasks,migrations,dataset.yaml}, configs/SEM/datasets.yaml
    Writes  data/SEM/backfill.sqlite, data/SEM/raw/dataset.duckdb, data/SEM/processed/clean.jsonl
    """
    from sem.ops.backfill import backfill, relabel, touched
    from sem.ops.backfill.work_queue import Queue
    from sem.ops.config import Backfill

    project, at = Project.load(sem, set), provenance.utc_now()
    if since:
        change = touched.change_since(project, since)
        planned = touched.plan_backfill_work(project, change)
        counts = Counter((work.kind, work.slots) for work in planned)
        rows = [(kind, ", ".join(slots) or "-", n) for (kind, slots), n in sorted(counts.items())]
        console.print_table(f"touched since {change.since}", ("kind", "slots", "rows"), rows)
        console.print_table("left out", ("why", "rows"), sorted(change.left_out.items()))
    if dry_run:
        return
    settings = project.settings("backfill", Backfill)
    queue = Queue(backfill.queue_path(project))
    if since:
        added = queue.add(touched.plan_backfill_work(project, change))
        console.print_note(f"{added:,} items are new in the queue")
    desk = backfill.BackfillWorker(
        project,
        queue,
        f"{os.getpid()}-{secrets.token_hex(4)}",
        at,
        settings,
        relabel.relabel_client(project, settings, at),
        per_minute,
        _counting_tokenizer(project),
    )
    done = sorted(backfill.run_backfill(desk).items())
    console.print_table("done by this worker", ("what", "items"), done)
    states: dict[Any, int] = queue.counts(desk.clock())
    rows = [(kind, state, n) for (kind, state), n in states.items()]
    console.print_table("queue", ("kind", "state", "items"), rows)
    console.print_table("failed", ("why", "items"), queue.reasons().items())
    if desk.model is None and states.get((touched.RELABEL, "queued")):
        console.print_note(
            "relabelling waits: no strong model is configured, or its cap is reached"
        )
    console.print_output_path(Path(backfill.queue_path(project)))


@job("ops.launch")
def launch_on_cloud(
    sem: Sem = None,
    run: RunId = None,
    cloud: Annotated[str, "a cloud of SkyPilot", BareValue("runpod")] = "runpod",
    gpu: Annotated[str, "by SkyPilot's name"] = "RTX4090",
    count: Annotated[int, "GPUs of that machine"] = 1,
    spot: Annotated[bool, "cheaper, and may be taken away"] = False,
    max_cost: Annotated[float, "US dollars at most; needed with --yes"] = 0.0,
    max_hours: Annotated[float, "of training"] = 6.0,
    price: Annotated[bool, "also ask SkyPilot for the price"] = False,
    yes: Annotated[bool, "rent, train, fetch, end"] = False,
) -> None:
    """Train a prepared run on a rented GPU through SkyPilot; without --yes nothing is rented.

        fab ops.launch --sem shop --cloud runpod --gpu RTX4090            the task only
        fab ops.launch --sem shop --spot --max-cost 5 --max-hours 4 --yes

    The price is shown first. SkyPilot refuses a machine that would exceed --max-cost within
    --max-hours; a spot machine that is taken away is replaced and the run goes on from its last
    checkpoint; at the end, or when anything fails, the machine is ended. Keys are not sent.

    Reads   what `fab -H HOST train.run` would send, see docs/hosts.md
    Writes  models/SEM/cloud/RUN/{task.yaml,workdir/,came/}, models/SEM/adapters/RUN/
    """
    from sem.ops.cloud import cloud_launch, cloud_task

    project = Project.load(sem)
    target = find_run(project, run, finished=False)
    request = cloud_task.CloudMachine(cloud, gpu, count, spot, max_cost, max_hours)
    tools = cloud_launch.CloudTools.of(cloud)
    if yes:
        cloud_launch.refuse_cpu(target)
        cloud_launch.train_on_cloud(project, target, request, tools)
        console.print_output_path(target.folder)
        return
    path = cloud_launch.write_cloud_task(project, target, request)
    print(path.read_text("utf-8"))
    if price:
        cloud_launch.show_rental_price(tools, path)
    else:
        console.print_note(
            f"nothing was rented; the price: `sky launch --dryrun {path}` or --price"
        )
    console.print_output_path(path)


def _nightly_row(name: str, split: dict[str, Any]) -> tuple[object, ...]:
    change = split["difference"]
    against = (
        "record"
        if split["is_record"]
        else f"{change['points']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"
    )
    accuracy = f"{split['accuracy'] * 100:.1f} %"
    changed = ", ".join(split["changed"]) or "-"
    return name, split["n"], accuracy, against, split["other_answers"], changed, split["judge"]


def _counting_tokenizer(project: Project) -> str | None:
    """Return the definition of the base model's tokenizer, None where no tokens are counted."""
    from sem.dataset.config import Dataset
    from sem.lm.local import chat

    if not project.settings("dataset", Dataset).clean.counts_tokens:
        return None
    return chat.load_of(project).definition
