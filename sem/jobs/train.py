"""The jobs of `train.*`: prepare a run, train it here or on a host, look at it, compare runs."""

import sys
from typing import Annotated

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import ROOT, Project
from sem.core.run import Run, find_run
from sem.jobs.job import Overrides, Positional, RunId, Sem, SnapshotVersion, job

HostName = Annotated[str | None, "[user@]name, or a name of configs/hosts.yaml"]
RequiredHostName = Annotated[str, "[user@]name, or a name of configs/hosts.yaml"]
Detach = Annotated[bool, "on a host: start it and leave"]
Processes = Annotated[int, "how many train it together, one a GPU"]
RayAddress = Annotated[
    str | None, "of a Ray cluster whose hosts share the run's folder, as HOST:6379"
]


@job("train.prepare")
def prepare_run(
    sem: Sem = None,
    snapshot: SnapshotVersion = None,
    device: Annotated[
        str | None, "where it will be trained: cpu, cuda or cuda:GIB (default: this machine)"
    ] = None,
    set: Overrides = (),
) -> None:
    """Resolve everything the next run will use, check it, and write it down as run.json.

        fab train.prepare --sem shop --set train.epochs=1
        fab train.prepare --sem shop --device cuda:24    for a host with such a GPU

    `--set train.renderer=plan` writes the plan's turns, `system: `, `user: `, `assistant: `,
    between <start_of_turn> and <end_of_turn>, or between <|im_start|> and <|im_end|> where the
    tokenizer has those; by default the tokenizer's own chat template is used.

    Stops with exit 1, before anything is written, when a check fails; the rows are named.

    Reads   configs/SEM/train.yaml, configs/SEM/tasks/, data/SEM/processed/*.vN.jsonl
    Writes  models/SEM/adapters/RUN/run.json
    """
    from sem.lm.local import hardware
    from sem.train.run import plan

    project = Project.load(sem, set)
    machine = hardware.parse_device(device) if device else None
    run = plan.prepare_training(project, console.read_version(snapshot), machine=machine)
    resolved = run.plan()
    checks = [(check["name"], check["found"]) for check in resolved["preflight"]]
    console.print_table("checked", ("what", "found"), checks)
    console.print_table(f"run {run.id}", ("what", "value"), plan.plan_summary(resolved))
    for doubt in plan.plan_doubts(resolved):
        console.print_note(doubt)
    console.print_output_path(run.folder / "run.json")


@job("train.run", runs_on_hosts=True)
def train_run(
    sem: Sem = None,
    run: RunId = None,
    resume: Annotated[bool, "go on from the last complete checkpoint"] = False,
    host: HostName = None,
    detach: Detach = False,
    processes: Processes = 1,
    ray_address: RayAddress = None,
    set: Overrides = (),
) -> None:
    """Fine-tune a prepared run; a function of its run.json.

        fab train.run --sem shop
        fab train.run --sem shop --run RUN --resume --set train.epochs=5
        fab -H me@gpu train.run --sem shop              push, train there, fetch
        fab train.run --sem shop --processes 4          one a GPU; the same steps
        fab train.run --sem shop --processes 16 --ray-address HOST:6379   across hosts

    With --resume it goes on from the last complete checkpoint; a broken one is set aside. --set
    then changes what can soundly change in a run that has begun; anything else is refused.

    Reads   models/SEM/adapters/RUN/run.json, data/SEM/processed/*.vN.jsonl
    Writes  models/SEM/adapters/RUN/{adapter/, metrics.jsonl, checkpoint-*/, manifest.json}
    """
    if host and ray_address:
        raise SemError(
            "--host and --ray-address: one names a host, the other a cluster",
            "leave one out; to start from a host of the cluster, log in there",
        )
    project = Project.load(sem)
    target = find_run(project, run, finished=False)
    if set:
        _change_recipe(target, set, resume)
    if host:
        from sem.train.remote import remote_jobs

        code = remote_jobs.run_on_host(project, target, host, resume, detach, processes)
        if code:
            console.exit_process(code)
        console.print_output_path(target.folder)
        return
    if processes != 1 or ray_address:
        sys.exit(_train_in_processes(project, target, resume, processes, ray_address))
    from sem.train.run import plan

    result = plan.train_prepared(project, target, resume)
    names = ("steps", "train_loss", "train_runtime", "resumed_from")
    rows = [(name, result[name]) for name in names if result.get(name) is not None]
    console.print_table(f"run {target.id}", ("what", "value"), rows)
    console.print_output_path(target.folder)


@job("train.resume", runs_on_hosts=True)
def resume_run(
    sem: Sem = None,
    run: RunId = None,
    host: HostName = None,
    detach: Detach = False,
    processes: Processes = 1,
    ray_address: RayAddress = None,
    set: Overrides = (),
) -> None:
    """Continue a run from its last complete checkpoint, with what may soundly change changed.

        fab train.resume --sem shop --run RUN --set train.epochs=5

    The same as `train.run --resume`.
    """
    train_run(sem, run, True, host, detach, processes, ray_address, set)


@job("train.show")
def show_rows(
    sem: Sem = None,
    snapshot: SnapshotVersion = None,
    rows: Annotated[int, "how many"] = 3,
    id: Annotated[tuple[str, ...], "the row of this example"] = (),
    set: Overrides = (),
) -> None:
    """Show rows as the model will see them, with what is learnt in colour.

        fab train.show --sem shop --rows 3

    Grey is the prompt, which carries no loss; values, keys, punctuation and the end of the turn
    each have a colour. Without a terminal the learnt part stands between ⟦ and ⟧.

    Reads   configs/SEM/train.yaml, configs/SEM/tasks/, data/SEM/processed/*.vN.jsonl
    Writes  nothing
    """
    from sem.dataset.split import snapshot as snapshots
    from sem.lm.weights import weights
    from sem.train import recipe
    from sem.train.rows import show
    from sem.train.run import plan

    project = Project.load(sem, set)
    frozen = snapshots.load_snapshot(project, console.read_version(snapshot))
    view = plan.view_training_rows(
        project, frozen, weights.base_of(project), recipe.load_recipe(project)
    )
    examples = {example.id: example for example in view.examples}
    for row in show.pick_rows(view.rows, rows, list(id) or None):
        spans = show.iterate_spans(row, examples[row.id], view.writer)
        title = f"{row.id} ({row.task}): {row.prompt} + {row.trained} tokens"
        console.print_marked_text(
            title, [(s.text, show.STYLES[s.kind], s.weight > 0) for s in spans]
        )
    total = show.count_tokens_by_kind(view.rows.kept, examples, view.writer)
    whole = sum(total.values())
    table = [(kind, f"{count:,}", f"{count / whole:.1%}") for kind, count in total.items()]
    console.print_table(f"all {len(view.rows.kept)} rows", ("tokens", "count", "share"), table)


@job("train.attach", runs_on_hosts=True)
def attach_to_run(host: RequiredHostName, sem: Sem = None, run: RunId = None) -> None:
    """Follow a run that trains on a host, from where the last look ended, to its exit code.

        fab -H me@gpu train.attach --sem shop --run RUN

    The job there goes on whatever happens to this command; exit 75 says that the host was not
    reached.

    Reads   the job's log on the host
    Writes  models/SEM/adapters/RUN/host/log.NNNN, the log as far as it came
    """
    from sem.train.remote import remote_jobs

    project = Project.load(sem)
    target = find_run(project, run, finished=False)
    code = remote_jobs.follow_remote_job(project, target, host)
    if code:
        sys.exit(code)
    console.print_note(f"fetch it with `fab -H {host} train.pull`")
    console.print_output_path(target.folder / "host")


@job("train.status", runs_on_hosts=True)
def show_remote_runs(host: RequiredHostName, sem: Sem = None) -> None:
    """Show the runs of a sem on a host: running, done, failed, killed, cancelled or lost.

        fab -H me@gpu train.status --sem shop

    Reads   the job folders on the host
    """
    from sem.train.remote import remote_jobs

    project = Project.load(sem)
    rows = remote_jobs.list_remote_runs(project, host)
    if not rows:
        console.print_note(f"no run of {project.sem} on {host}")
    console.print_table(f"{project.sem} on {host}", remote_jobs.COLUMNS, rows)


@job("train.cancel", runs_on_hosts=True)
def cancel_run(host: RequiredHostName, sem: Sem = None, run: RunId = None) -> None:
    """End a run that trains on a host: TERM, half a minute to write a checkpoint, then KILL.

        fab -H me@gpu train.cancel --sem shop --run RUN

    Writes  jobs/SEM/RUN/NNNN/{cancel, exit.json} on the host; nothing here
    """
    from sem.train.remote import remote_jobs

    project = Project.load(sem)
    target = find_run(project, run, finished=False)
    console.print_note(
        f"run {target.id} on {host}: {remote_jobs.cancel_on_host(project, target, host)}"
    )


@job("train.pull", runs_on_hosts=True)
def pull_run(
    host: RequiredHostName,
    sem: Sem = None,
    run: RunId = None,
    checkpoints: Annotated[bool, "also its complete checkpoints, when unfinished too"] = False,
) -> None:
    """Fetch a run that was trained on a host, every file checked by its hash.

        fab -H me@gpu train.pull --sem shop --run RUN
        fab -H me@gpu train.pull --sem shop --checkpoints     also when unfinished

    A cut transfer goes on where it was when the command is given again; the files that are here
    stay as they are until everything has come.

    Reads   the run's folder on the host
    Writes  models/SEM/adapters/RUN/{adapter/, metrics.jsonl, manifest.json}
    """
    from sem.train.remote import remote_jobs

    project = Project.load(sem)
    target = find_run(project, run, finished=False)
    remote_jobs.pull_from_host(project, target, host, checkpoints)
    console.print_output_path(target.folder)


@job("train.sweep")
def sweep_recipe(sem: Sem = None, snapshot: SnapshotVersion = None, set: Overrides = ()) -> None:
    """Try points of the recipe's space, each with every seed, and show which is best on val.

        fab train.sweep --sem shop
        fab train.sweep --sem shop --set sweep.points=20 --set train.epochs=1

    A killed sweep goes on with the same command. Test is never read.

    Reads   configs/SEM/{sweep.yaml,train.yaml,tasks/*}, data/SEM/processed/{train,val}.vN.jsonl
    Writes  models/SEM/adapters/RUN/ for each point and seed,
            models/SEM/sweeps/NAME/{sweep.json,best.yaml,points.jsonl,journal.log}
    """
    from sem.train.sweep import sweep, sweep_points

    project = Project.load(sem, set)
    table, folder = sweep.run_sweep(project, console.read_version(snapshot))
    title = f"sweep {table.name}: {table.sweep.metric}"
    console.print_table(title, sweep_points.COLUMNS, sweep_points.point_rows(table))
    console.print_note(sweep_points.describe_best_point(table))
    console.print_note(sweep_points.sweep_caveat(table))
    console.print_output_path(folder / "sweep.json")


@job("train.compare")
def compare_runs(
    run: Annotated[str, "the run that the others are compared with", Positional("RUN")],
    other: Annotated[str, "another run", Positional("OTHER")],
    sem: Sem = None,
    also: Annotated[tuple[str, ...], "a further run", Positional("RUN", is_flag_of_fab=True)] = (),
) -> None:
    """Show two or more runs side by side: recipe, data, losses, speed, what is not comparable.

        fab train.compare RUN RUN --sem shop
        fab train.compare RUN RUN --also RUN --sem shop

    The first run is the one that the others are compared with on test.

    Reads   models/SEM/adapters/RUN/{run.json,metrics.jsonl,manifest.json}, reports/SEM/RUN/
    Writes  reports/SEM/compare/NAME/compare.{md,json,html}
    """
    from sem.train.run import run_compare

    project = Project.load(sem)
    sides = run_compare.read_runs(project, [run, other, *also])
    comparison = run_compare.compared_runs(project, sides)
    columns = ("what", *comparison["runs"])
    console.print_table(f"{project.sem}: runs", columns, run_compare.compare_table(comparison))
    tests = map(run_compare.describe_test_result, comparison["test"])
    for line in (*run_compare.list_comparison_notes(comparison), *tests):
        console.print_note(line)
    console.print_output_path(
        run_compare.write_run_comparison(project, comparison, sides) / "compare.md"
    )


def _train_in_processes(
    project: Project, run: Run, resume: bool, processes: int, ray_address: str | None
) -> int:
    """Train `run` in several processes; return the exit code that tells the most."""
    from sem.train.parallel import cluster, launch

    # A file that each host of a cluster can be asked for; an installed package has none.
    script = ROOT / "scripts" / "train_run.py"
    words = [str(script)] if script.is_file() else ["-m", "sem", "train.run"]
    words += [f"--sem={project.sem}", f"--run={run.id}"]
    words += ["--resume"] if resume else []
    if not ray_address:
        return launch.start_processes(words, processes)
    has_gpus = run.plan()["hardware"]["device"] == "cuda"
    return cluster.start_on_cluster(words, processes, ray_address, has_gpus)


def _change_recipe(run: Run, overrides: tuple[str, ...], resume: bool) -> None:
    """Change the recipe of a run that has begun, and say what was changed."""
    from sem.train.run import updates

    if not resume:
        raise SemError(
            "--set changes nothing in a prepared run",
            "prepare one with `fab train.prepare --set …`, or add --resume to go on with a change",
        )
    rows = updates.apply_updates(run, list(overrides))
    console.print_table(f"run {run.id} goes on with", ("key", "was", "is"), rows)
