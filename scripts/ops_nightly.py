"""Let the promoted run answer again, compare it with its record, and ring when it got worse.

    python scripts/ops_nightly.py --sem shop            (from cron: `fab ops.install_cron`)

Runs once a UTC date, however often it is started, and once at a time; a night that failed is
tried again by the next start, and rings again only when it fails otherwise. Exit 0: as it was,
done before, or running elsewhere. Exit 1: worse or failed; reports/SEM/nightly/ALERT.json says
why, and $SEM_WEBHOOK_URL gets it, signed with $SEM_WEBHOOK_SECRET.

Reads   models/SEM/promoted.json, the run's snapshot, data/SEM/golden/, configs/SEM/nightly.yaml
Writes  reports/SEM/nightly/{DATE/, record/, history.jsonl, ALERT.json}
"""

import os
import shutil

from sem.core import console, files, provenance
from sem.core.errors import Busy, SemError
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--again", action="store_true", help="also when this date has run")
    args = parser.parse_args(argv)
    from sem.ops import nightly

    os.umask(0o077)  # answers and verdicts may quote private pages
    found, at = nightly.desk(Project.load(args.sem, args.set)), provenance.now()
    try:
        with files.lock(found.folder / ".lock", "the nightly run"):
            ended = nightly.status_of_night(found, at)
            if ended and not args.again:
                console.note(f"{at:%Y-%m-%d} has run already, {ended}: {found.history}")
                return
            if args.again:
                shutil.rmtree(found.night(at).reports, ignore_errors=True)
            night = nightly.run(found, at)
    except Busy:
        console.note("another nightly run is at work: nothing to do")
        return
    rows = [
        (name, s["n"], f"{s['accuracy'] * 100:.1f} %", "record" if s["is_record"] else
         f"{s['difference']['points']:+.1f} [{s['difference']['low']:+.1f}, "
         f"{s['difference']['high']:+.1f}]", s["other_answers"], ", ".join(s["changed"]) or "-",
         s["judge"])
        for name, s in night["splits"].items()
    ]  # fmt: skip
    columns = ("split", "n", "slot accuracy", "against the record", "other answers",
               "changed since", "judge")  # fmt: skip
    console.table(f"{found.project.sem}: {night.get('run', '-')}", columns, rows)
    if night["status"] != "ok":
        why = night.get("error", "slot accuracy fell")
        raise SemError(f"nightly {night['status']}: {why}; {night['alert']}", f"see {found.alert}")
    console.done(found.history)


if __name__ == "__main__":
    console.run(main)
