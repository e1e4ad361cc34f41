"""Show the runs of a sem on a host: running, done, failed, killed, cancelled or lost.

    python scripts/train_status.py --host me@gpu --sem shop

Reads   the job folders on the host
"""

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem")
    parser.add_argument("--host", required=True, help="[user@]name, or a name of hosts.yaml")
    args = parser.parse_args(argv)
    from sem.train.remote import remote_jobs

    project = Project.load(args.sem)
    rows = remote_jobs.status(project, args.host)
    if not rows:
        console.note(f"no run of {project.sem} on {args.host}")
    console.table(f"{project.sem} on {args.host}", remote_jobs.COLUMNS, rows)


if __name__ == "__main__":
    console.run(main)
