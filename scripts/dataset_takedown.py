"""Erase rows everywhere, keep them out for good, and block what was made from them.

    python scripts/dataset_takedown.py --sem shop --domain example.com --reason "request 17"
    python scripts/dataset_takedown.py --sem shop --person "ada@example.com" --dry-run
    python scripts/dataset_takedown.py --sem shop           # finish one that was interrupted

Exit 1 while the scan at the end still finds a trace; the same command then goes on.

Reads   the store, data/SEM, reports/SEM, models/SEM, every other file under data/ and reports/
Writes  data/SEM/governance/{tombstones,takedown}.jsonl, the store and every file of Sem's that
        held the rows, configs/SEM/datasets.yaml, tainted.json beside runs and packages,
        reports/SEM/takedown-ID.json
"""

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    for flag, what in (("id", "a row"), ("source", "a source document"), ("domain", "a domain"),
                       ("person", "an e-mail address, phone number or full name")):  # fmt: skip
        parser.add_argument(f"--{flag}", action="append", default=[], help=f"{what} (repeatable)")
    parser.add_argument("--reason", default="", help="why; kept, so it names nobody")
    parser.add_argument("--dry-run", action="store_true", help="list what would go, write nothing")
    args = parser.parse_args(argv)

    from sem.core import provenance
    from sem.dataset.takedown import requested_rows, takedowns

    project = Project.load(args.sem, args.set)
    ask = requested_rows.parse(args.id, args.source, args.domain, args.person, args.reason)
    if args.dry_run:
        console.table("would be taken down", ("what", "count"), takedowns.preview(project, ask))
        return
    hits: list[str] = []
    for done in takedowns.run(project, ask, provenance.now(), console.note):
        name = done.receipt["takedown"]
        console.table(f"takedown {name}", ("what", "found"), takedowns.table(done))
        console.done(done.path)
        hits += done.hits
    if hits:
        raise SemError(
            f"{len(hits)} files still hold a trace: {', '.join(sorted(set(hits))[:8])}",
            "remove them or run the takedown in the sem they belong to, then run this again",
        )


if __name__ == "__main__":
    console.run(main)
