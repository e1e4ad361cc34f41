"""Fine-tune a prepared run; a function of its run.json.

    python scripts/train_run.py --sem shop
    python scripts/train_run.py --sem shop --run RUN --resume --set train.epochs=5
    python scripts/train_run.py --sem shop --host me@gpu        push, train there, fetch
    python scripts/train_run.py --sem shop --processes 4        one a GPU; the same steps
    python scripts/train_run.py --sem shop --processes 16 --ray-address HOST:6379   across hosts

With --resume it goes on from the last complete checkpoint; a broken one is set aside. --set then
changes what can soundly change in a run that has begun; anything else is refused.

Reads   models/SEM/adapters/RUN/run.json, data/SEM/processed/*.vN.jsonl
Writes  models/SEM/adapters/RUN/{adapter/, metrics.jsonl, checkpoint-*/, manifest.json}
"""

import argparse
import sys

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run, find


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "set")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--host", help="train there: [user@]name, or a name of hosts.yaml")
    parser.add_argument("--detach", action="store_true", help="with --host: start it and leave")
    parser.add_argument("--processes", type=int, default=1, help="one a GPU")
    parser.add_argument(
        "--ray-address", help="place them on this Ray cluster, whose hosts share the run's folder"
    )
    args = parser.parse_args(argv)
    if args.host and args.ray_address:
        raise SemError(
            "--host and --ray-address: one names a host, the other a cluster",
            "leave one out; to start from a host of the cluster, log in there",
        )
    project = Project.load(args.sem)
    run = find(project, args.run, finished=False)
    if args.set:
        update(run, args.set, args.resume)
    if args.host:
        from sem.train.remote import remote_jobs

        code = remote_jobs.run(project, run, args.host, args.resume, args.detach, args.processes)
        if code:
            sys.exit(code)
        return console.done(run.folder)
    if args.processes != 1 or args.ray_address:
        words = [__file__, f"--sem={project.sem}", f"--run={run.id}"]
        words += ["--resume"] if args.resume else []
        sys.exit(started(words, args, run))
    from sem.train.run import plan

    result = plan.train(project, run, args.resume)
    wanted = ("steps", "train_loss", "train_runtime", "resumed_from")
    rows = [(name, result[name]) for name in wanted if result.get(name) is not None]
    console.table(f"run {run.id}", ("what", "value"), rows)
    console.done(run.folder)


def started(words: list[str], args: argparse.Namespace, run: Run) -> int:
    """Run WORDS in several processes, here or on a cluster; the exit code that tells the most."""
    from sem.train.parallel import cluster, launch

    if not args.ray_address:
        return launch.start(words, args.processes)
    gpus = run.plan()["hardware"]["device"] == "cuda"
    return cluster.start(words, args.processes, args.ray_address, gpus)


def update(run: Run, given: list[str], resume: bool) -> None:
    """Change the recipe of a begun RUN as GIVEN, and say what was changed."""
    from sem.train.run import updates

    if not resume:
        raise SemError(
            "--set changes nothing in a prepared run",
            "prepare one with `fab train.prepare --set …`, or add --resume to go on with a change",
        )
    changed = updates.apply(run, given)
    console.table(f"run {run.id} goes on with", ("key", "was", "is"), changed)


if __name__ == "__main__":
    console.run(main)
