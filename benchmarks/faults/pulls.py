"""R5 and R9: pulls of a store while somebody writes it, and over a line that is cut.

    python benchmarks/faults/pulls.py [--pulls 40] [--cuts 10]

A writer (plain DuckDB, its own process) commits row after row and says each number that was
committed. Before every pull that number is noted; a pull is complete when all rows up to it are
there without a gap, refused when it says so, and anything else is a silent loss. Pulls go over a
real sshd on this machine. Cut pulls: the line ends after so many bytes, once each; the rows must
be those of the source. Copying the file as `cp` does is tried at the same moments, for comparison.

Writes  benchmarks/results/faults_pulls.md
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "dataset")]

from rowmaker import project, shops  # noqa: E402
from sshd import SSHD, Line, serving  # noqa: E402

from sem.core import console, files  # noqa: E402
from sem.core.errors import SemError  # noqa: E402
from sem.dataset.ingest import pull  # noqa: E402
from sem.dataset.ingest.importers import ImportOptions  # noqa: E402
from sem.dataset.store import store  # noqa: E402

WRITER = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute(f"PRAGMA wal_autocheckpoint='{sys.argv[2]}'")
number, began = 0, time.monotonic()
while True:
    connection.execute("INSERT INTO examples(id, task, prompt_text, response_strong) "
                       "VALUES (?, 'product', ?, '1')", [f"w{number:07}", "x" * 300])
    print(number, flush=True)
    number += 1
    time.sleep(max(0, began + number / 500 - time.monotonic()))
"""
# Pulls of one store, which grows; then a new one.
EACH = 5
# DuckDB's default, more often: share of the pulls.
CHECKPOINTS = {"16MB": 1.0, "1MB": 0.25}


class Writer:
    """A process that commits rows into `path` and says how far it is."""

    def __init__(self, path: Path, every: str) -> None:
        argv = [sys.executable, "-P", "-c", WRITER, str(path), every]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        self._rest, self.acked, self.began = b"", -1, time.monotonic()
        while self.acked < 0:
            self.look()

    def look(self) -> int:
        """Return the last number that was committed."""
        os.set_blocking(self._pipe, False)
        while True:
            try:
                data = os.read(self._pipe, 1 << 20)
            except BlockingIOError:
                return self.acked
            *whole, self._rest = (self._rest + data).split(b"\n")
            if whole:
                self.acked = int(whole[-1])
            if not data:
                return self.acked

    def stop(self) -> float:
        """Kill it; commits a second over its life."""
        self.look()
        rate = self.acked / (time.monotonic() - self.began)
        self._process.kill()
        self._process.wait()
        return rate


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pulls", type=int, default=40)
    parser.add_argument("--cuts", type=int, default=10)
    args = parser.parse_args(argv)
    if SSHD is None:
        raise SemError("no sshd on this machine", "install openssh-server")
    folder = Path(tempfile.mkdtemp(prefix="sem-pulls-"))
    (folder / "sshd").mkdir()
    with serving(folder / "sshd") as server:
        live = [
            live_pulls(folder, server, every, max(1, round(share * args.pulls)))
            for every, share in CHECKPOINTS.items()
        ]
        cut = cut_pulls(folder, server, args.cuts)
    shutil.rmtree(folder)
    columns = (
        "checkpoint each",
        "commits/s, least",
        "pulls",
        "complete",
        "refused",
        "silent loss",
        "median s",
        "cp complete",
        "cp fails",
        "cp silent loss",
    )
    console.print_table("live pulls", columns, live)
    lines = [
        "# Pulls while a writer commits, and over cut lines (R5, R9)",
        f"Command: `python benchmarks/faults/pulls.py --pulls {args.pulls} --cuts {args.cuts}`, "
        f"{os.cpu_count()} CPUs, local disk, sshd on 127.0.0.1. Complete: every row that was "
        "committed before the pull began, without a gap. `cp` copies the .duckdb alone.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(map(str, row)) + " |" for row in live),
        "",
        cut,
    ]
    console.print_note(cut)
    console.print_output_path(
        files.write_file(ROOT / "benchmarks/results/faults_pulls.md", "\n".join(lines) + "\n")
    )
    if any(row[5] for row in live):
        raise SemError("a pull lost rows silently", "see the table")


def live_pulls(folder: Path, server: object, every: str, count: int) -> tuple[object, ...]:
    home, pulls, copies, times, rates = folder / every, Counter(), Counter(), [], []
    for number in range(count):
        if number % EACH == 0:
            far = home / f"far{number}" / "dataset.duckdb"
            store.append_store_rows(far, shops(3))
            writer = Writer(far, every)
        acked = writer.look()
        shutil.copyfile(far, home / "copy.duckdb")
        copies[judged(home / "copy.duckdb", acked)] += 1
        made = project(home / f"p{number}")
        acked, began = writer.look(), time.monotonic()
        pulls[pulled(made, f"far:{far}", server, acked)] += 1
        times.append(time.monotonic() - began)
        shutil.rmtree(home / f"p{number}")
        if number % EACH == EACH - 1 or number == count - 1:
            rates.append(writer.stop())
    rate = min(rates)
    middle = sorted(times)[len(times) // 2]
    kinds = ("complete", "refused", "loss")
    return (
        every,
        f"{rate:.0f}",
        count,
        *(pulls[k] for k in kinds),
        f"{middle:.1f}",
        *(copies[k] for k in kinds),
    )


def pulled(made: object, source: str, server: object, acked: int) -> str:
    try:
        pull.pull_source(made, source, ImportOptions(), datetime.now(UTC), str(server.config))
    except SemError as error:
        console.print_note(error.message[-160:])
        return "refused"
    return judged(made.store, acked)


def judged(path: Path, acked: int) -> str:
    """Return `complete` when the rows 0..n are there and n is `acked` or more."""
    try:
        with store.open_store(path) as opened:
            found = sorted(name for name in opened.ids() if name.startswith("w"))
    except SemError:
        return "refused"
    whole = found == [f"w{number:07}" for number in range(len(found))]
    return "complete" if whole and len(found) > acked else "loss"


def cut_pulls(folder: Path, server: object, count: int) -> str:
    """Return `count` pulls of 12 MB, each cut one to three times at places that a seed chooses."""
    import random

    pick = random.Random(0)
    far = folder / "cuts" / "dataset.duckdb"
    rows = shops(3)
    text = "".join(pick.choices("abcdefghijklmnop", k=1_000_000))
    rows = [
        replace(one, id=f"{one.id}-{n}", input_text=text[at : at + 3_000])
        for n in range(450)
        for one in rows
        for at in [pick.randrange(990_000)]
    ]
    store.append_store_rows(far, rows)
    size, whole, cuts = far.stat().st_size, 0, 0
    for number in range(count):
        made = project(folder / f"cut{number}")
        places = [pick.randrange(10_000, size // 2) for _ in range(pick.randint(1, 3))]
        with Line(server.port, places) as line:
            server.reach(line.at)
            outcome = pulled(made, f"far:{far}", server, -1)
            server.reach(server.port)
        with store.open_store(made.store) as opened:
            whole += outcome == "complete" and set(opened.ids()) == {one.id for one in rows}
        cuts += line.made
    return (
        f"Cut lines: {whole} of {count} pulls of {size:,} bytes complete after {cuts} cuts; "
        "each went on from the byte where it was cut, and the hash of the whole was compared."
    )


if __name__ == "__main__":
    console.run_main(main)
