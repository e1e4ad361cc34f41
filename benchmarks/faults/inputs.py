"""R13: hostile inputs through the paths of a user; each is read, counted or refused, in time.

    python benchmarks/faults/inputs.py [--family NAME]

A case is handled when it is read, when each of its rows is refused by name (counted), or when it
is refused with this project's own error, within 2 seconds and 512 MB above an idle process. Any
other exception, a crash and a hang are faults. Each family runs in a process of its own, in a
sandbox: a file outside the folder of its case is a fault, too. Pages and bombs are then imported
and cleaned as one store each: rows in are rows kept plus rows rejected by name.
Inputs: ../shared/data/hostile, and bombs made here.

Writes  benchmarks/results/faults_inputs.md
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOSTILE = ROOT.parent / "shared" / "data" / "hostile"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(HERE)]

from sem.core import console, files, jsonio  # noqa: E402
from sem.core.errors import SemError  # noqa: E402

LATE_S, DEAD_S = 2.0, 30.0
MIB = 1 << 20
COLUMNS = (
    "family",
    "cases",
    "read",
    "counted",
    "refused",
    "other than expected",
    "untyped",
    "over 2 s",
    "slowest s",
    "peak MiB",
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", action="append", default=[], help="only this one (repeatable)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not HOSTILE.is_dir():
        raise SemError(f"{HOSTILE}: no such folder", "this benchmark needs the shared data")
    if args.child:
        child(args.child, args.skip)
        return
    from benchmarks.faults import input_cases

    chosen = args.family or list(input_cases.FAMILIES)
    rows, wrong = [], []
    for name in chosen:
        row, more = family(name)
        rows.append(row)
        wrong += more
    whole = [] if args.family else [cleaned("pages"), cleaned("bombs")]
    told(rows, wrong, whole)


def family(name: str) -> tuple[tuple[Any, ...], list[str]]:
    """Return the counts of one family, and a line for each case that is not as expected."""
    with tempfile.TemporaryDirectory(prefix="sem-inputs-") as folder:
        said = listen(name, Path(folder))
        strays = [p for p in Path(folder).rglob("*") if p.is_file() and "home" not in p.parts]
    peak = max((one["peak"] for one in said), default=0)
    counts = Counter(one["outcome"] for one in said)
    wrong = [one for one in said if one["wrong"]]
    late = [one for one in said if one["s"] > LATE_S]
    slowest = max(said, key=lambda one: one["s"])
    faults = counts["fault"] + len(strays)
    row = (
        name,
        len(said),
        *(counts[k] for k in ("accept", "counted", "reject")),
        len(wrong),
        faults,
        len(late),
        f"{slowest['s']:.2f}",
        f"{peak:.0f}",
    )
    lines = [f"{name}: {one['name']}: {one['outcome']}: {one['why']}" for one in wrong]
    lines += [f"{name}: {one['name']}: {one['s']:.1f} s" for one in late]
    lines += [f"{name}: {one['name']}: {one['peak']:.0f} MiB" for one in said if one["peak"] > 512]
    lines += [f"{name}: {one['name']}: {one['why']}" for one in said if one["outcome"] == "fault"]
    return row, [*lines, *(f"{name}: stray file {path.name}" for path in strays)]


def listen(name: str, folder: Path) -> list[dict[str, Any]]:
    """Return what the cases of `name` said.

    A process that dies is a fault of the case it was at.
    """
    said: list[dict[str, Any]] = []
    for part in ("home", "tmp", "cwd"):
        (folder / part).mkdir()
    while True:
        argv = [sys.executable, __file__, "--child", name, "--skip", str(len(said))]
        done = subprocess.run(
            argv,
            cwd=folder / "cwd",
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "SEM_SANDBOX": str(folder / "home")},
            capture_output=True,
            text=True,
        )
        found = [json.loads(line) for line in done.stdout.splitlines()]
        said += [one for one in found if one["name"] != "(end)"]
        if found and found[-1]["name"] == "(end)":
            return said
        why = f"the process ended with {done.returncode}: {done.stderr[-200:]}"
        said.append(
            {
                "name": f"case {len(said)}",
                "outcome": "fault",
                "wrong": True,
                "s": 0.0,
                "why": why,
                "peak": 0,
            }
        )


def child(name: str, skip: int) -> None:
    from benchmarks.faults import input_cases

    home = Path(os.environ["SEM_SANDBOX"])
    for number, case in enumerate(input_cases.FAMILIES[name](HOSTILE, home)):
        if number >= skip:
            print(json.dumps(tried(*case)), flush=True)
    print(json.dumps({"name": "(end)"}))


def tried(name: str, expected: str, call: Any) -> dict[str, Any]:
    import signal

    # kills: a hang is a fault of this case.
    signal.alarm(int(DEAD_S))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    began, why = time.process_time(), ""
    try:
        outcome = "counted" if call() == "counted" else "accept"
    except (SemError, UnicodeDecodeError) as error:
        outcome, why = "reject", str(error).split("\n")[0][:200]
    except ValueError as error:  # what jsonio.loads promises; elsewhere a bug
        outcome, why = (
            "reject" if type(error) in (ValueError, json.JSONDecodeError) else "fault",
            str(error)[:200],
        )
    except Exception as error:
        outcome, why = "fault", f"{type(error).__name__}: {error}"[:200]
    spent = time.process_time() - began
    signal.alarm(0)
    read = outcome in ("accept", "counted")
    wrong = (expected == "accept" and not read) or (expected == "reject" and outcome == "accept")
    return {
        "name": name,
        "outcome": outcome,
        "wrong": wrong,
        "s": spent,
        "why": why,
        "peak": memory("VmHWM") - before,
    }


def memory(kind: str) -> float:
    """MiB that this process holds (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def cleaned(kind: str) -> tuple[Any, ...]:
    """Import and clean a store of pages or bombs; what became of its rows."""
    from rowmaker import project

    from benchmarks.faults import input_cases
    from sem.dataset.clean import clean
    from sem.dataset.ingest import importers

    pages = (
        input_cases.bombs()
        if kind == "bombs"
        else dict(enumerate(input_cases.page_texts(HOSTILE)))
    )
    with tempfile.TemporaryDirectory(prefix="sem-inputs-") as folder:
        made = project(Path(folder))
        path = made.root / "rows.jsonl"
        with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
            for name, page in pages.items():
                # A page of its own: two inputs alike with two answers would be a conflict.
                page = f"<p>kept {name}</p>{page}"
                row = {
                    "id": f"r{name}",
                    "task": "product",
                    "html": page,
                    "answer": {"title": f"Mug {name}", "price": 1},
                }
                file.write(json.dumps(row) + "\n")
        began = time.monotonic()
        result = importers.import_file(made, path, importers.ImportOptions())
        done = clean.clean_store(made)
        spent = time.monotonic() - began
        kept = sum(1 for _ in files.read_rows(done.path))
        reasons = Counter(one["reason"] for one in files.read_rows(made.processed / clean.REJECTS))
    refused, whys = sum(result.rejects.values()), ", ".join(sorted(result.rejects))
    lost = len(pages) - kept - sum(reasons.values()) - refused
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    named = ", ".join(f"{count} {why}" for why, count in sorted(reasons.items())) or "none"
    return kind, len(pages), f"{refused} {whys}", kept, named, lost, f"{spent:.1f}", f"{peak:.0f}"


def told(rows: list[tuple[Any, ...]], wrong: list[str], whole: list[tuple[Any, ...]]) -> None:
    sums = [sum(row[i] for row in rows) for i in range(1, 8)]
    most = [max(float(row[i]) for row in rows) for i in (8, 9)]
    shown = [*rows, ("all", *sums, f"{most[0]:.2f}", f"{most[1]:.0f}")]
    console.print_table("hostile inputs", COLUMNS, shown)
    lines = [
        "# Hostile inputs (R13)",
        f"Command: `python benchmarks/faults/inputs.py`, {os.cpu_count()} CPUs. Seconds are of "
        "the processor; the peak is what a case added to the process, DuckDB included.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(map(str, row)) + " |" for row in shown),
        "",
        "## As one store: import, then clean",
        "",
        "| what | rows | refused by the import | kept | rejected by cleaning | lost | wall s | "
        "peak of a worker MiB |",
        "|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join(map(str, row)) + " |" for row in whole),
        "",
        "## Not as expected, late or untyped",
        "",
        *(f"- {line}" for line in wrong or ["none"]),
    ]
    for line in wrong:
        console.print_note(line)
    if whole:
        text = "\n".join(console.replace_control_characters(line) for line in lines) + "\n"
        console.print_output_path(
            files.write_file(ROOT / "benchmarks" / "results" / "faults_inputs.md", text)
        )
    console.print_note(jsonio.canonical_json([list(map(str, one)) for one in whole]))
    if sums[5] or sums[6]:
        raise SemError(f"{sums[5]} untyped faults, {sums[6]} over time", "see the lines above")


if __name__ == "__main__":
    console.run_main(main)
