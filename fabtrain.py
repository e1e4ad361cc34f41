"""The jobs of train.*, here and on a host, and ops.launch; fabfile.py collects them.

`fab -H me@gpu train.run` never opens Fabric's own connection: the name goes to a script on this
machine, which talks to the host through OpenSSH's `ssh`.
"""

from fabric import task

from fabjobs import RUN, SEM, SET, SNAPSHOT, script, script_for_host

HOST = {"host": "[user@]name or a name of configs/hosts.yaml (default: what -H says)"}
DETACH = {"detach": "on a host: start it and leave"}
DEVICE = {"device": "where it will be trained: cpu, cuda or cuda:GIB (default: this machine)"}
PROCESSES = {
    "processes": "how many train it together, one a GPU (default: 1)",
    "ray_address": "of a Ray cluster that places them on its hosts, as HOST:6379",
}


@task(help=SEM | SNAPSHOT | SET | DEVICE, iterable=["set"])
def train_prepare(c, sem=None, snapshot=None, device=None, set=None):
    """Resolve and write down everything the next run uses."""
    script(c, "train_prepare", sem=sem, snapshot=snapshot, device=device, set=set)


@task(help=SEM | RUN | HOST | DETACH | PROCESSES | {"resume": "older spelling of train.resume"})
def train_run(
    c, sem=None, run=None, resume=False, host=None, detach=False, processes=None, ray_address=None
):
    """Train a prepared run, here, on a host, or on a Ray cluster."""
    flags = {"run": run, "resume": resume, "detach": detach, "processes": processes}
    flags["ray_address"] = ray_address
    script_for_host(c, "train_run", host, sem=sem, **flags)


@task(help=SEM | RUN | HOST | DETACH | PROCESSES | SET, iterable=["set"])
def train_resume(
    c, sem=None, run=None, host=None, detach=False, processes=None, ray_address=None, set=None
):
    """Continue a run from its last whole checkpoint, with what may soundly change changed."""
    flags = {"run": run, "resume": True, "detach": detach, "processes": processes, "set": set}
    flags["ray_address"] = ray_address
    script_for_host(c, "train_run", host, sem=sem, **flags)


@task(
    help=SEM | SNAPSHOT | SET | {"rows": "how many", "id": "of this example (repeatable)"},
    iterable=["set", "id"],
)
def train_show(c, sem=None, snapshot=None, rows=None, id=None, set=None):
    """Show rows as the model will see them, what is learnt in colour."""
    script(c, "train_show", sem=sem, snapshot=snapshot, rows=rows, id=id, set=set)


@task(help=SEM | RUN | HOST)
def train_attach(c, sem=None, run=None, host=None):
    """Follow a run on a host to its exit code, from where the last look ended."""
    script_for_host(c, "train_attach", host, sem=sem, run=run)


@task(help=SEM | HOST)
def train_status(c, sem=None, host=None):
    """Show the runs of a sem on a host."""
    script_for_host(c, "train_status", host, sem=sem)


@task(help=SEM | RUN | HOST)
def train_cancel(c, sem=None, run=None, host=None):
    """End a run on a host: TERM, half a minute, KILL."""
    script_for_host(c, "train_cancel", host, sem=sem, run=run)


@task(help=SEM | RUN | HOST | {"checkpoints": "also its whole checkpoints, when unfinished too"})
def train_pull(c, sem=None, run=None, host=None, checkpoints=False):
    """Fetch a run from a host, every file checked by its hash."""
    script_for_host(c, "train_pull", host, sem=sem, run=run, checkpoints=checkpoints)


@task(help=SEM | SNAPSHOT | SET, iterable=["set"])
def train_sweep(c, sem=None, snapshot=None, set=None):
    """Try points of the recipe's space with several seeds; the best on val, never on test."""
    script(c, "train_sweep", sem=sem, snapshot=snapshot, set=set)


@task(help=SEM | {"also": "another run (repeatable)"}, iterable=["also"])
def train_compare(c, run, other, sem=None, also=None):
    """Show runs side by side, and what is not comparable."""
    script(c, "train_compare", run, other, *(also or []), sem=sem)


LAUNCH = {
    "cloud": "of SkyPilot (default: runpod)",
    "gpu": "by SkyPilot's name (default: RTX4090)",
    "count": "GPUs of that machine (default: 1)",
    "spot": "cheaper, may be taken away",
    "max_cost": "US dollars at most; needed with --yes",
    "max_hours": "of training (default: 6)",
    "price": "ask SkyPilot for the price",
    "yes": "rent, train, fetch, end",
}


@task(help=SEM | RUN | LAUNCH)
def ops_launch(
    c, sem=None, run=None, cloud=None, gpu=None, count=None, spot=False, max_cost=None,
    max_hours=None, price=False, yes=False,
):  # fmt: skip
    """Train a run on a rented GPU; without --yes the task is only shown."""
    chosen = {"run": run, "cloud": cloud, "gpu": gpu, "count": count, "spot": spot}
    more = {"max_cost": max_cost, "max_hours": max_hours, "price": price, "yes": yes}
    script(c, "ops_launch", sem=sem, **chosen, **more)
