"""Follow a run that trains on a host, from where the last look ended, to its exit code.

    python scripts/train_attach.py --host me@gpu --sem shop --run RUN

The job there goes on whatever happens to this command; exit 75 says that the host was not reached.

Reads   the job's log on the host
Writes  models/SEM/adapters/RUN/host/log.NNNN, the log as far as it came
"""

import sys

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
    code = remote_jobs.attach(project, run, args.host)
    if code:
        sys.exit(code)
    console.note(f"fetch it with `fab -H {args.host} train.pull`")
    console.done(run.folder / "host")


if __name__ == "__main__":
    console.run(main)
