"""Bring the rows that a schema, prompt or cleaner change touches up to date, resumably.

    python scripts/ops_backfill.py --sem shop --since v3 --dry-run
    python scripts/ops_backfill.py --sem shop --since 2026-05-01 --per-minute 60
    python scripts/ops_backfill.py --sem shop          # go on with what is queued

Several may work on one queue. Without a strong model (configs/SEM/backfill.yaml, or the judge's)
relabelling stays queued.

Reads   the store, configs/SEM/{tasks,migrations,dataset.yaml}, configs/SEM/datasets.yaml
Writes  data/SEM/backfill.sqlite, data/SEM/raw/dataset.duckdb, data/SEM/processed/clean.jsonl
"""

import os
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--since", metavar="DATE|VERSION", help="what rows were made with, as v3")
    parser.add_argument("--per-minute", type=int, help="items begun a minute, by all workers")
    parser.add_argument("--dry-run", action="store_true", help="count what is touched, and stop")
    args = parser.parse_args(argv)

    from sem.core import provenance
    from sem.ops.backfill import backfill, relabel, touched
    from sem.ops.backfill.work_queue import Queue
    from sem.ops.config import Backfill

    project, at = Project.load(args.sem, args.set), provenance.now()
    if args.since:
        found = touched.change(project, args.since)
        rows = Counter((work.kind, work.slots) for work in touched.work(project, found))
        console.table(f"touched since {found.since}", ("kind", "slots", "rows"), _touched(rows))
        console.table("left out", ("why", "rows"), sorted(found.left_out.items()))
    if args.dry_run:
        return
    settings = project.settings("backfill", Backfill)
    queue = Queue(backfill.path(project))
    if args.since:
        console.note(f"{queue.add(touched.work(project, found)):,} items are new in the queue")
    desk = backfill.Desk(
        project, queue, f"{os.getpid()}-{secrets.token_hex(4)}", at, settings,
        relabel.client(project, settings, at), args.per_minute, _tokenizer(project),
    )  # fmt: skip
    done = backfill.run(desk)
    console.table("done by this worker", ("what", "items"), sorted(done.items()))
    counts = queue.counts(desk.clock())
    console.table("queue", ("kind", "state", "items"), [(*k, n) for k, n in counts.items()])
    console.table("failed", ("why", "items"), queue.reasons().items())
    if desk.model is None and counts.get((touched.RELABEL, "queued")):
        console.note("relabelling waits: no strong model is configured, or its cap is reached")
    console.done(Path(backfill.path(project)))


def _touched(rows: "Counter[Any]") -> list[tuple[str, str, int]]:
    return [(kind, ", ".join(slots) or "-", n) for (kind, slots), n in sorted(rows.items())]


def _tokenizer(project: Project) -> str | None:
    from sem.dataset.config import Dataset
    from sem.lm.local import chat

    if not project.settings("dataset", Dataset).clean.counts_tokens:
        return None
    return chat.load_of(project).definition


if __name__ == "__main__":
    console.run(main)
