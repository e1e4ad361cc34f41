"""R20: fifty real rows erased from every kind of artefact; then looked for, and imported again.

    python benchmarks/faults/erasure.py --rows 300 --kills 20

A project is made of real pages (../shared/data/html): cleaned, cut twice, with answers, sheets,
reports, transcripts, a ledger of calls, packed nights, variants, runs and packages that quote the
rows. The rows are taken down; what is left is searched by snippets that this script chose itself,
not by the scan's shingles. Then takedowns of a smaller project are killed at random moments.

Writes  benchmarks/results/faults_erasure.md
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.faults.artefacts import AT, quote, trained
from sem.core import console, files, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.ingest import importers
from sem.dataset.split import snapshot
from sem.dataset.store import row_marks, store
from sem.dataset.store.examples_table import RawRow
from sem.dataset.takedown import byte_scan, takedown
from sem.dataset.takedown.requested_rows import TakedownRequest

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT.parent / "shared" / "data" / "html" / "examples.duckdb"
SNIPPET, SNIPPETS = 48, 5


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--erased", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    if not ROWS.is_file():
        raise SemError(f"{ROWS}: no such file", "this benchmark needs the shared data")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder) / "big")
        found += kills(args, Path(folder) / "small")
    columns = ("what", "result", "wanted")
    console.print_table("erasure", columns, found)
    call = f"python benchmarks/faults/erasure.py --rows {args.rows} --kills {args.kills}"
    lines = [
        "# Erasure (R20)",
        f"Command: `{call}`; {platform.machine()}, {os.cpu_count()} CPUs, shared with other jobs.",
        "",
    ]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in found]
    path = ROOT / "benchmarks" / "results" / "faults_erasure.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def build(root: Path, count: int, later: int) -> tuple[Project, list[RawRow]]:
    """Return a sem of `count` real rows: v1 without the last `later` of them, v2 with all.

    And the rows.
    """
    shutil.copytree(ROOT / "configs" / "shop", root / "configs" / "shop")
    (root / "configs" / "shop" / "datasets.yaml").unlink(missing_ok=True)
    made = Project("shop", root)
    with store.open_store(ROWS) as opened:
        rows = [r for r in opened.rows() if r.task in made.tasks and len(r.input_text) < 120_000]
    # By domain: the same page is there for several tasks, and twins go together.
    rows = sorted(rows, key=lambda r: (domain_hash(r), str(r.id)))[:count]
    for part in (rows[:-later], rows[-later:]):
        store.append_store_rows(made.store, part)
        clean.clean_store(made, clean.CleaningOptions(today="2026-05-04"))
        snapshot.freeze_snapshot(made, AT)
    return made, rows


def domain_hash(row: RawRow) -> str:
    return files.sha256_text("|".join(row_marks.of_raw(row).domains) or str(row.id))


def snippets(rows: list[RawRow], others: list[RawRow], dice: random.Random) -> dict[str, list]:
    """Per row some stretches of its text that no other row has."""
    rest = "\n".join(r.input_text or "" for r in others)
    found: dict[str, list[bytes]] = {}
    for row in rows:
        mine: list[bytes] = []
        for _ in range(200):
            start = dice.randrange(max(1, len(row.input_text) - SNIPPET))
            piece = row.input_text[start : start + SNIPPET]
            plain = piece.isascii() and not set(piece) & set("\"\\\n\r\t<>&'")
            if plain and len(piece) == SNIPPET and piece not in rest:
                mine.append(piece.encode())
            if len(mine) == SNIPPETS:
                break
        found[str(row.id)] = mine
    return found


def traces(made: Project, wanted: dict[str, list]) -> dict[str, set[str]]:
    """Return rows that are still found, and in which files: raw bytes, and what they unpack to."""
    found: dict[str, set[str]] = {}
    for path in byte_scan.paths_to_scan(made):
        for block in chain((path.read_bytes(),), byte_scan.file_blocks(path)):
            for name, pieces in wanted.items():
                if any(piece in block for piece in pieces):
                    found.setdefault(name, set()).add(path.name)
    return found


def measure(args: argparse.Namespace, root: Path) -> list[tuple[str, str, str]]:
    """Return everything but the kills."""
    dice = random.Random(args.seed)
    made, rows = build(root, args.rows, args.rows // 2)
    frozen = [
        e
        for part in snapshot.load_snapshot(made, 2).counts
        for e in snapshot.load_snapshot(made, 2).examples(part)
    ]
    old = {
        e.id
        for part in snapshot.load_snapshot(made, 1).counts
        for e in snapshot.load_snapshot(made, 1).examples(part)
    }
    pool = sorted(e.id for e in frozen if e.id not in old)
    names = set(dice.sample(pool, min(args.erased, len(pool))))
    kinds = quote(made, [r for r in rows if r.id in {e.id for e in frozen}])
    runs = {version: [trained(made, version, n) for n in range(3)] for version in (1, 2)}
    before = lines(made, 2)
    wanted = snippets(
        [r for r in rows if r.id in names], [r for r in rows if r.id not in names], dice
    )
    there = traces(made, wanted)
    began = time.monotonic()
    (done,) = takedown.run_takedowns(
        made, TakedownRequest(ids=tuple(sorted(names)), reason="R20"), AT, console.print_note
    )
    span = time.monotonic() - began
    gone = done.receipt["rows"]
    left = traces(made, wanted)
    after = lines(made, 3)
    erased = set(before) - set(after)
    tainted = [n for n in runs[2] if run.read_taints(made.adapters / n)]
    packages = [n for n in runs[2] if run.read_taints(made.packages / n)]
    spared = [n for n in runs[1] if not run.read_taints(made.adapters / n)]
    again, renamed = refused(made, [r for r in rows if r.id in names])
    same = sum(before[n] == after[n] for n in after)
    return [
        (
            "rows in the project / artefact kinds besides store, clean set and snapshots",
            f"{len(rows)} / {kinds}",
            "-",
        ),
        (
            "rows taken down: asked for, twins, near-duplicates",
            f"{gone.get('id', 0)}, {gone.get('twin', 0)}, {gone.get('near', 0)}",
            "-",
        ),
        (
            "rows with snippets of their own / found before",
            f"{sum(map(bool, wanted.values()))} / {len(there)}",
            "-",
        ),
        (
            "rows found afterwards by snippets",
            f"{len(left)} of {sum(map(bool, wanted.values()))}",
            "0",
        ),
        ("files with a trace by the scan", str(len(done.hits)), "0"),
        ("runs on the snapshot listed and blocked", f"{len(tainted)} of 3", "3 of 3"),
        ("packages listed and blocked", f"{len(packages)} of 3", "3 of 3"),
        ("runs on the older snapshot left alone", f"{len(spared)} of 3", "3 of 3"),
        ("imported again under the same id: refused", f"{again} of {len(names)}", "all"),
        ("imported again under another id: refused", f"{renamed} of {len(names)}", "all"),
        ("other rows' lines unchanged", f"{same} of {len(after)}", "all"),
        ("rows gone from the snapshot", str(len(erased)), str(gone["total"])),
        ("seconds", f"{span:.1f}", "-"),
    ]


def lines(made: Project, version: int) -> dict[str, bytes]:
    """Return every line of snapshot `version` by id."""
    frozen = snapshot.load_snapshot(made, version)
    found = (line for part in frozen.counts for line in frozen.path(part).open("rb"))
    return {json.loads(line)["id"]: line for line in found}


def refused(made: Project, rows: list[RawRow]) -> tuple[int, int]:
    """Return how many of `rows` an import refuses, as they were and under other ids."""
    counts = []
    for mark in ("", "fresh-"):
        path = made.root / "back.jsonl"
        files.write_rows(path, [record(replace(r, id=f"{mark}{r.id}")) for r in rows])
        result = importers.import_file(made, path, importers.ImportOptions(on_conflict="skip"))
        counts.append(result.rejects["taken_down"])
        path.unlink()
    return counts[0], counts[1]


def record(row: RawRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "task": row.task,
        "input_text": row.input_text,
        "output_json": json.loads(row.reference or "null"),
    }


def kills(args: argparse.Namespace, root: Path) -> list[tuple[str, str, str]]:
    """Takedowns of one row killed at random moments; the next run finishes each."""
    dice = random.Random(args.seed)
    made, rows = build(root / "made", 60, 20)
    names = sorted(
        e.id
        for part in snapshot.load_snapshot(made, 2).counts
        for e in snapshot.load_snapshot(made, 2).examples(part)
    )
    finished = resumed = 0
    planning, acting = timed(copy(made, root / "timed"), names[0])
    for number in range(args.kills):
        name = dice.choice(names)
        one = copy(made, root / f"kill{number}")
        quote(one, [r for r in rows if r.id == name])
        wanted = snippets(
            [r for r in rows if r.id == name], [r for r in rows if r.id != name], dice
        )
        process = start(one, "--id", name)
        # One in five while it still plans: nothing is written then.
        if number % 5:
            begun(one, process)
            time.sleep(dice.uniform(0, acting))
        else:
            time.sleep(dice.uniform(0.2, 0.9) * planning)
        process.send_signal(signal.SIGKILL)
        process.wait()
        resumed += bool(takedown.unfinished_takedowns(one))
        code = start(one, "--id", name).wait()
        is_gone = not traces(one, wanted) and name not in lines(
            one, snapshot.snapshot_versions(one)[-1]
        )
        finished += code == 0 and is_gone and not takedown.unfinished_takedowns(one)
        shutil.rmtree(one.root)
    return [
        (
            "takedowns killed (kill -9) / of those begun and unfinished",
            f"{args.kills} / {resumed}",
            "-",
        ),
        ("finished by the same command, no trace", f"{finished} of {args.kills}", "all"),
    ]


def copy(made: Project, root: Path) -> Project:
    shutil.copytree(made.root, root)
    return Project(made.sem, root)


def timed(made: Project, name: str) -> tuple[float, float]:
    """Seconds until a takedown is planned, and from there to its end."""
    began = time.monotonic()
    process = start(made, "--id", name)
    begun(made, process)
    planned = time.monotonic()
    process.wait()
    return planned - began, time.monotonic() - planned


def begun(made: Project, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the plan of a takedown is written, or its process is gone."""
    while process.poll() is None and not takedown.unfinished_takedowns(made):
        time.sleep(0.01)


def start(made: Project, *words: str) -> "subprocess.Popen[bytes]":
    script = ROOT / "scripts" / "dataset_takedown.py"
    return subprocess.Popen(
        [sys.executable, str(script), "--sem", made.sem, *words],
        env={**os.environ, "SEM_ROOT": str(made.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    console.run_main(main)
