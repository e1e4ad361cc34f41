"""End a run that trains on a host: TERM, half a minute to write a checkpoint, then KILL.

    python scripts/train_cancel.py --host me@gpu --sem shop --run RUN

Writes  jobs/SEM/RUN/NNNN/{cancel, exit.json} on the host; nothing here
"""

from sem.core import console
from sem.core.project import Project
from sem.core.run import find


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run")
    parser.add_argument("--host", required=True, help="[user@]name, or a name of hosts.yaml")
    args = parser.parse_args(argv)
    from sem.train.remote import remote_jobs

    project = Project.load(args.sem)
    run = find(project, args.run, finished=False)
    console.note(f"run {run.id} on {args.host}: {remote_jobs.cancel(project, run, args.host)}")


if __name__ == "__main__":
    console.run(main)
