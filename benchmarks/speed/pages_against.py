"""Pages a second that this checkout simplifies, against another checkout, interleaved.

    python benchmarks/speed/pages_against.py OTHER
    python benchmarks/speed/pages_against.py OTHER --pages 400 --chars 6000 --table

OTHER is the root of a checkout, also one of before the library lay at the root. Two processes, one
a checkout, take turns at batches of the same pages; what counts is their CPU time.

Reads   ../shared/data/{html,html2}/pages.parquet
Writes  with --table benchmarks/results/pages_against.md
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
BATCH = 40
WORKER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import duckdb
duckdb.execute("SET enable_progress_bar = false")
query = "select html from read_parquet(?) order by hash(html)"
pages = [row[0] for row in duckdb.execute(query, [sys.argv[2].split(",")]).fetchall()]
try:
    from sem.dataset.html import markup
except ImportError:
    from sem.dataset import markup
from sem.dataset.config import TaskOptions
limit = int(sys.argv[3]) or None
options = TaskOptions(max_chars=limit)
for line in sys.stdin:
    first, last = map(int, line.split())
    began = time.process_time()
    for page in pages[first:last]:
        markup.simplify(page, options, limit)
    print(time.process_time() - began, flush=True)
"""


def worker(root: Path, chars: int) -> subprocess.Popen[str]:
    """Start the process that simplifies pages with the library of the checkout `root`."""
    library = root if (root / "sem").is_dir() else root / "scripts"
    sets = ",".join(str(DATA / name / "pages.parquet") for name in ("html", "html2"))
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WORKER, str(library), sets, str(chars)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def seconds(process: subprocess.Popen[str], first: int, last: int) -> float:
    """Return the CPU seconds that `process` takes for the pages from `first` up to `last`."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{first} {last}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compare(other: Path, pages: int, chars: int) -> str:
    """Return one row of the table: pages a second here and there, and their ratio."""
    here, there = worker(ROOT, chars), worker(other, chars)
    for process in (here, there):
        seconds(process, 0, 5)
    took: dict[bool, list[float]] = {True: [], False: []}
    for number, first in enumerate(range(0, pages, BATCH)):
        for process in (here, there) if number % 2 else (there, here):
            took[process is here].append(seconds(process, first, min(first + BATCH, pages)))
    for process in (here, there):
        process.kill()
    ratios = [b / a for a, b in zip(took[True], took[False], strict=True)]
    speeds = [pages / sum(took[side]) for side in (True, False)]
    return (
        f"| {chars or 'no'} | {pages} | {speeds[0]:.1f} | {speeds[1]:.1f} | "
        f"{speeds[0] / speeds[1]:.2f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


def main() -> None:
    """Compare with and without a budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path)
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--chars", type=int, default=6000)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    name = subprocess.run(
        ["git", "-C", str(args.other), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    lines = [
        f"# Pages a second against {name}, one core",
        "",
        "Command: `python benchmarks/speed/pages_against.py OTHER --table`; interleaved, CPU time.",
        "",
        f"| characters | n | here | {name} | ratio | median of batches |",
        "|---|---|---|---|---|---|",
        *(compare(args.other, args.pages, chars) for chars in (0, args.chars)),
    ]
    print("\n".join(lines))
    if args.table:
        path = ROOT / "benchmarks" / "results" / "pages_against.md"
        path.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
