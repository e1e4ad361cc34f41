"""Fetch a run that was trained on a host, every file checked by its hash.

    python scripts/train_pull.py --host me@gpu --sem shop --run RUN
    python scripts/train_pull.py --host me@gpu --sem shop --checkpoints     also when unfinished

A cut transfer goes on where it was when the command is given again; the files that are here stay
as they are until everything has come.

Reads   the run's folder on the host
Writes  models/SEM/adapters/RUN/{adapter/, metrics.jsonl, manifest.json}
"""

from sem.core import console
from sem.core.project import Project
from sem.core.run import find


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run")
    parser.add_argument("--host", required=True, help="[user@]name, or a name of hosts.yaml")
    parser.add_argument("--checkpoints", action="store_true", help="also its whole checkpoints")
    args = parser.parse_args(argv)
    from sem.train.remote import remote_jobs

    project = Project.load(args.sem)
    run = find(project, args.run, finished=False)
    remote_jobs.pull(project, run, args.host, args.checkpoints)
    console.done(run.folder)


if __name__ == "__main__":
    console.run(main)
