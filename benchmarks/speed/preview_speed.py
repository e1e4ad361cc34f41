"""Time and memory of previews, each in a process of its own, as a user starts them.

    python benchmarks/speed/preview_speed.py [--only NAME]

Reads   ../shared/data/preview, scikit-learn's sets, the demo (`fab demo`)
Writes  benchmarks/results/preview_speed.md
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.preview import preview_cases
from benchmarks.speed.clean import machine
from sem.core import files
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset.split import snapshot

ROOT = Path(__file__).resolve().parents[2]
SHARED = preview_cases.SHARED
MILLION = 1_000_000
CONFIG = "base: base.parquet\nbenchmark: benchmark.parquet\n"
COLUMNS = (
    "contribution",
    "rows",
    "learnt from",
    "classes",
    "wall s",
    "CPU s",
    "peak MiB",
    "points",
    "word",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="sets whose name holds this")
    only = parser.parse_args().only
    rows = []
    with tempfile.TemporaryDirectory() as named:
        root = Path(named)
        for name, path in (("base", "baseline_train"), ("benchmark", "validation")):
            content = (SHARED / f"banking77_{path}.parquet").read_bytes()
            files.write_file(root / f"{name}.parquet", content)
        (root / "configs" / "banking" / "tasks").mkdir(parents=True)
        files.write_file(root / "configs" / "banking" / "preview.yaml", CONFIG)
        for name, make in SETS.items():
            if only in name:
                rows.append(timed(name, make(root), root))
                print(rows[-1], flush=True)
                if not only:
                    written(rows)


def written(rows: list[tuple[str, ...]]) -> None:
    """Write the table of `rows`, so far."""
    lines = [
        "# Previews: time and memory",
        "",
        f"`python benchmarks/speed/preview_speed.py`. {machine()}; load average at the end "
        f"{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores, so that CPU seconds say more than "
        "the clock. Nothing was cached. The peak is of the whole process, and no less than what "
        "this script holds when it starts it.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    files.write_file(ROOT / "benchmarks" / "results" / "preview_speed.md", "\n".join(lines))


def timed(name: str, words: list[str], root: Path) -> tuple[str, ...]:
    """Return one line of the table."""
    argv = [
        sys.executable,
        str(ROOT / "scripts" / "preview_run.py"),
        "--output-format",
        "json",
        "--cache",
        str(root / f"cache {name}"),
        *words,
    ]
    env = {**os.environ, "SEM_ROOT": str(ROOT if "demo" in words else root)}
    began = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(argv, stdout=out, stderr=subprocess.PIPE, env=env)
        said = child.stderr.read() if child.stderr else b""
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{name}: {said.decode()[-500:]}")
        out.seek(0)
        made = json.loads(out.read())
    told, estimate = made["preview_metadata"], made["estimate"]
    unit = "nats_per_token" if "nats_per_token" in estimate else "percentage_points"
    points, form = estimate[unit], "+.3f" if unit == "nats_per_token" else "+.1f"
    return (
        name,
        f"{told['original_data_size']:,}",
        f"{told['sample_size_used']:,}",
        str(len(made["rows"]["by_class"])) if form == "+.1f" else "-",
        f"{wall:.0f}",
        f"{used.ru_utime + used.ru_stime:.0f}",
        f"{used.ru_maxrss / 1024:.0f}",
        f"{points['mean']:{form}} [{points['ci95_low']:{form}}, {points['ci95_high']:{form}}]"
        + (" nats a token" if form == "+.3f" else ""),
        estimate["decision"],
    )


def shared(name: str) -> Callable[[Path], list[str]]:
    return lambda root: ["--data-path", str(SHARED / name), "--sem", "banking"]


def clinc(root: Path) -> list[str]:
    return ["--data-path", str(SHARED / "clinc150_full_over_10000.parquet")]


def table(name: str) -> Callable[[Path], list[str]]:
    def make(root: Path) -> list[str]:
        pool = next(pool for pool in preview_cases.tables() if pool.name == name)
        path = root / f"{name}.jsonl"
        rows = (*pool.base, *pool.pool, *pool.benchmark)
        files.write_rows(path, map(preview_cases.as_row, rows))
        return ["--data-path", str(path)]

    return make


def million(kind: str) -> Callable[[Path], list[str]]:
    """Return two texts of clinc150 after another, both of one class, a million times."""

    def make(root: Path) -> list[str]:
        path = root / f"million.{kind}"
        source = SHARED / "clinc150_full_over_10000.parquet"
        query = (
            f"COPY (SELECT a.text || ' ' || b.text AS text, a.label FROM '{source}' a "
            f"JOIN '{source}' b ON a.label = b.label AND a.text <> b.text "
            f"ORDER BY md5(a.text || b.text) LIMIT {MILLION}) TO '{path}' (FORMAT {kind})"
        )
        # In a process of its own: a child's peak begins with what its parent holds.
        code = "import duckdb, sys; duckdb.sql(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, query], check=True)
        return ["--data-path", str(path)]

    return make


def demo(count: int) -> Callable[[Path], list[str]]:
    """Return `count` pages of the demo's task.

    Its train rows in another order, some lines less.
    """

    def make(root: Path) -> list[str]:
        frozen = snapshot.load_snapshot(Project.load("demo"), None)
        rows, lot = list(frozen.examples("train")), random.Random(1)
        path = root / f"demo{count}.jsonl"
        files.write_rows(path, (page(rows[n % len(rows)], n, lot) for n in range(count)))
        return ["--data-path", str(path), "--sem", "demo"]

    return make


def page(one: Example, number: int, lot: random.Random) -> dict[str, object]:
    head, body = one.input_text.split("\n")[:2], one.input_text.split("\n")[2:]
    kept = [line for line in body if lot.random() > 0.1]
    lot.shuffle(kept)
    return {
        "input_text": "\n".join([*head, *kept]),
        "output_json": one.output_json,
        "task": one.task,
        "domain": f"made{number % 50}.example",
    }


SETS: dict[str, Callable[[Path], list[str]]] = {
    "clinc150, by itself": clinc,
    "digits, by itself": table("digits"),
    "banking77 good (csv)": shared("contribution_good.csv"),
    "1,000,000 texts (Parquet)": million("parquet"),
    "banking77 noisy labels": shared("contribution_noisy_labels.parquet"),
    "banking77 duplicates": shared("contribution_duplicates_of_baseline.parquet"),
    "made table, by itself": table("made"),
    "banking77 good (json)": shared("contribution_good.json"),
    "1,000,000 texts (CSV)": million("csv"),
    "demo, SmolLM2-135M by LoRA, 200 pages": demo(200),
    "demo, SmolLM2-135M by LoRA, 10,000 pages": demo(10_000),
}

if __name__ == "__main__":
    main()
