"""R4 and R6: kill -9 at random moments of import, clean, train and generate, then again.

    python benchmarks/faults/kills.py --kills 10 --store-kills 200

Each stage runs once undisturbed, then is killed at random moments; the same command is run again
until it ends. The result must equal the undisturbed one: bytes for clean and the adapter, answer
texts for generate (latencies differ), rows for the store. Clean and import work on the demo's
1,200 pages, training and generation on a tiny real model (two layers, CPU).

Writes  benchmarks/results/faults_kills.md
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sem.core import console, files, jsonio

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills of each stage")
    parser.add_argument(
        "--store-kills", type=int, default=200, help="kills during imports, and of a file writer"
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ |= {"SEM_ROOT": str(root), "SEM_DEVICE": "cpu"}
        rows = measure(args, root)
    columns = ("stage", "kills", "killed while running", "equal to undisturbed", "repeated rows")
    console.print_table("kill -9", columns, rows)
    command_line = (
        f"benchmarks/faults/kills.py --kills {args.kills} --store-kills {args.store_kills}"
    )
    lines = ["# Kill -9 (R4, R6)", f"Command: `python {command_line}`", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    path = ROOT / "benchmarks" / "results" / "faults_kills.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def measure(args: argparse.Namespace, root: Path) -> list[tuple[str, ...]]:
    """Return one row a stage."""
    prepare(root)
    dice = random.Random(args.seed)
    demo, toy = root / "data" / "demo", root / "models" / "toy" / "adapters"
    clean = demo / "processed" / "clean.jsonl"
    run("dataset_split", "--sem", "toy"), run("train_prepare", "--sem", "toy")
    folder = next(toy.glob("2*"))
    adapter = folder / "adapter" / "adapter_model.safetensors"
    answers = root / "reports" / "toy" / folder.name / "answers.test.jsonl"
    stages: dict[str, tuple[list[str], Callable[[], object], Callable[[], None], Path]] = {
        "clean": (
            ["dataset_clean", "--sem", "demo"],
            lambda: files.sha256_file(clean),
            lambda: shutil.rmtree(demo / "processed"),
            clean,
        ),
        "train": (
            ["train_run", "--sem", "toy"],
            lambda: files.sha256_file(adapter),
            lambda: fresh(folder),
            folder / "manifest.json",
        ),
        "generate": (
            ["eval_generate", "--sem", "toy"],
            lambda: texts(answers),
            lambda: shutil.rmtree(answers.parent),
            answers,
        ),
    }
    rows = [stage(name, *parts, args.kills, dice) for name, parts in stages.items()]
    return [*rows, store(root, args.store_kills, dice), torn(root, args.store_kills, dice)]


def prepare(root: Path) -> None:
    """The toy project of the tests, cleaned, and the demo's own store and configs."""
    from toy import SPEC, TRAIN, make_model, make_store

    model = make_model(root / "tiny")
    configs = root / "configs" / "toy"
    spec = jsonio.pretty_json(SPEC | {"base_model_id": str(model)})
    files.write_file(configs / "tasks" / "price.json", spec)
    files.write_file(configs / "train.yaml", TRAIN.replace("epochs: 1", "epochs: 12"))
    files.write_file(configs / "eval.yaml", "batch: 2\nmax_new_tokens: 64\n")
    make_store(root / "data" / "toy" / "raw" / "dataset.duckdb", shops=24)
    shutil.copytree(ROOT / "configs" / "demo", root / "configs" / "demo")
    (root / "configs" / "demo" / "datasets.yaml").unlink(missing_ok=True)
    run("demo_data", "--sem", "demo"), run("dataset_clean", "--sem", "toy")


def stage(
    name: str,
    words: list[str],
    result: Callable[[], object],
    forget: Callable[[], None],
    mark: Path,
    kills: int,
    dice: random.Random,
) -> tuple[str, ...]:
    """Kill one stage `kills` times, each in a fresh attempt, and compare what it ends with."""
    began = time.monotonic()
    run(*words)
    span, whole = time.monotonic() - began, result()
    alive = equal = 0
    for _ in range(kills):
        forget()
        alive += killed(words, dice.uniform(0.15, 1.0) * span)
        if name != "train" or not mark.exists():
            run(*words)
        equal += result() == whole
    repeated = repeats(mark) if name == "generate" else 0
    console.print_note(f"{name}: {equal} of {kills} equal")
    return name, str(kills), str(alive), f"{equal}/{kills}", str(repeated)


def store(root: Path, kills: int, dice: random.Random) -> tuple[str, ...]:
    """Kill imports: the store then holds all rows of finished imports and none of a killed one."""
    import duckdb

    path = root / "data" / "demo" / "raw" / "dataset.duckdb"
    source = root / "rows.jsonl"
    sound = alive = acked = 0
    words = ["dataset_import", "--sem", "demo", str(source)]
    write_rows(source, "first")
    began = time.monotonic()
    run(*words)
    span, base = time.monotonic() - began, count(duckdb, path)
    for number in range(kills):
        write_rows(source, f"k{number:04}")
        died = killed(words, dice.uniform(0.4, 1.02) * span)
        alive += died
        now = count(duckdb, path)
        sound += now in (base + acked, base + acked + 150) if died else now == base + acked + 150
        acked = now - base
    return "import", str(kills), str(alive), f"{sound}/{kills}", "0"


WRITER = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sem.core import files, jsonio
while True:
    files.write_file(Path(sys.argv[2]), jsonio.pretty({"rows": ["x" * 50] * 20_000}))
"""


def torn(root: Path, kills: int, dice: random.Random) -> tuple[str, ...]:
    """Kill a writer of one manifest over and over: the file is whole each time."""
    path = files.write_file(
        root / "torn" / "manifest.json", jsonio.pretty_json({"rows": ["x" * 50]})
    )
    whole = 0
    for _ in range(kills):
        words = [sys.executable, "-c", WRITER, str(ROOT), str(path)]
        with subprocess.Popen(words) as process:
            time.sleep(dice.uniform(0.2, 0.6))
            process.kill()
        whole += files.read_json(path)["rows"][-1] == "x" * 50
    return "write a file", str(kills), str(kills), f"{whole}/{kills}", "0"


def write_rows(source: Path, batch: str) -> None:
    """150 importable rows whose ids begin with `batch`."""
    rows = [row(f"{batch}-{number:03}") for number in range(150)]
    source.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")


def row(name: str) -> dict[str, object]:
    """Return one importable row of 2 kB."""
    page = {"id": name, "task": "navpage_classifier", "prompt_text": "x" * 2000}
    return page | {"response_strong": {"page_type": "cart"}, "metadata": {}}


def count(duckdb: object, path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:  # type: ignore[attr-defined]
        return connection.execute("SELECT count(*) FROM examples").fetchall()[0][0]


def fresh(folder: Path) -> None:
    """A prepared run as if it had never been started."""
    for path in folder.iterdir():
        if path.name != "run.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def texts(path: Path) -> dict[str, str]:
    return {row["id"]: row["text"] for row in files.read_rows(path)}


def repeats(path: Path) -> int:
    ids = [row["id"] for row in files.read_rows(path)]
    return len(ids) - len(set(ids))


def run(*words: str) -> None:
    subprocess.run(
        command(words), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def killed(words: list[str], after_s: float) -> bool:
    """Start `words`, kill its whole process group `after_s` seconds later.

    Whether it still ran.
    """
    with subprocess.Popen(
        command(words),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            process.wait(timeout=after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


def command(words: tuple[str, ...] | list[str]) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / f"{words[0]}.py"), *words[1:]]


if __name__ == "__main__":
    console.run_main(main)
