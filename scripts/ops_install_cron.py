"""Run ops.nightly from cron: every hour, so that a missed night is caught up.

    python scripts/ops_install_cron.py --sem shop            print the line
    python scripts/ops_install_cron.py --sem shop --write    put it into this user's crontab

Writes  a marked block of this user's crontab, and nothing else
"""

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--write", action="store_true", help="change the crontab")
    args = parser.parse_args(argv)
    from sem.ops import cron

    project = Project.load(args.sem, args.set)
    if args.write:
        cron.write(project)
        console.note("the crontab has the line; cron's output goes to the log")
        console.done(cron.log(project))
    else:
        print(cron.line(project))


if __name__ == "__main__":
    console.run(main)
