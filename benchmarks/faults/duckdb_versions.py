"""R26: stores written by older DuckDB versions are read here, and ours open there.

    python benchmarks/faults/duckdb_versions.py

Each version is installed by pip into a folder of its own, from the configured index. It writes a
store in the seven columns with awkward texts; the rows must come back equal. Then it opens a
store, written here and rewritten as a takedown does, and must read the same rows.

Writes  benchmarks/results/faults_duckdb_versions.md
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from sem.core import console, files
from sem.core.errors import SemError
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow
from sem.dataset.takedown import erase

ROOT = Path(__file__).resolve().parents[2]
READ = ("1.0.0", "1.1.3", "1.2.2", "1.3.2", "1.4.0", "1.5.6")
# Older ones are tried and told, not promised.
OPENS_OURS = ("1.4.0", "1.5.6")
ROWS = [
    RawRow(f"r{n}", "product", text, '{"title":"ü","price":1.5}', '{"domain":"a.example"}')
    for n, text in enumerate(("plain", "zwölf € 🎉", "nul \\u0000 quote ' \"", "x" * 300_000, ""))
]
WRITE = """
import duckdb, json, sys
rows = json.load(open(sys.argv[2]))
with duckdb.connect(sys.argv[1]) as c:
    c.execute("CREATE TABLE examples (id VARCHAR PRIMARY KEY, task VARCHAR, prompt_text VARCHAR, "
              "response_strong JSON, metadata JSON, slot_specs JSON, system_prompt VARCHAR)")
    c.executemany("INSERT INTO examples VALUES (?, ?, ?, ?, ?, NULL, NULL)", rows)
print(duckdb.__version__)
"""
LOOK = """
import duckdb, json, sys
with duckdb.connect(sys.argv[1], read_only=True) as c:
    print(json.dumps(c.execute("SELECT id, task, prompt_text, response_strong::VARCHAR, "
                               "metadata::VARCHAR FROM examples ORDER BY id").fetchall()))
"""


def main(argv: list[str] | None = None) -> None:
    console.make_argument_parser(__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(Path(folder), version) for version in READ]
    columns = ("DuckDB", "installed", "its store read here", "our store read there")
    here = metadata.version("duckdb")
    read = sum(row[2] == "equal" for row in rows)
    opened = sum(row[3] == "equal" for row in rows if row[0] in OPENS_OURS)
    totals = f"read here {read}/{len(READ)}; ours opens in 1.4 and 1.5 {opened}/{len(OPENS_OURS)}"
    console.print_table(f"DuckDB versions, here {here}", columns, rows)
    print(totals)
    lines = [
        "# DuckDB versions (R26)",
        "Command: `python benchmarks/faults/duckdb_versions.py`; "
        f"here DuckDB {here}, storage version {store.STORAGE_VERSION}, {len(ROWS)} rows.",
        "",
        f"{totals}.",
        "",
    ]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    path = ROOT / "benchmarks" / "results" / "faults_duckdb_versions.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def measure(folder: Path, version: str) -> tuple[str, str, str, str]:
    """Return what became of `version`: installed, its store read here, ours read there."""
    target = folder / f"duckdb-{version}"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--target",
        str(target),
        f"duckdb=={version}",
    ]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=600)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        return version, f"no: {last[:80]}", "-", "-"
    theirs, ours, rows = (folder / f"{version}.{end}" for end in ("duckdb", "ours.duckdb", "json"))
    rows.write_text(json.dumps([row.columns()[:5] for row in ROWS]))
    said = run(target, WRITE, str(theirs), str(rows))
    if said.stdout.strip() != version:
        return version, f"no: runs as {said.stdout.strip()!r}", "-", "-"
    return version, "yes", read_here(theirs), read_there(target, ours)


def run(target: Path, code: str, *words: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def read_here(path: Path) -> str:
    try:
        with store.open_store(path) as opened:
            found = sorted(opened.rows(), key=lambda row: str(row.id))
    except SemError as error:
        return error.message[-120:]
    return "equal" if [r.columns()[:5] for r in found] == [r.columns()[:5] for r in ROWS] else "no"


def read_there(target: Path, path: Path) -> str:
    store.append_store_rows(path, [*ROWS, RawRow("gone", "product", "to be erased", "{}", "{}")])
    erase.erase_rows(path, {"gone"})
    done = run(target, LOOK, str(path))
    if done.returncode:
        faults = [line for line in done.stderr.splitlines() if "Error" in line]
        return (faults or ["?"])[-1].partition("Error: ")[2][:100]
    return "equal" if json.loads(done.stdout) == [list(r.columns()[:5]) for r in ROWS] else "no"


if __name__ == "__main__":
    console.run_main(main)
