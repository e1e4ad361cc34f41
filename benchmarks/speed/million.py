"""A million rows: cleaned and near-duplicates found in bounded memory; Ray gives the same bytes.

    python benchmarks/speed/million.py --rows 1000000        local engine, memory, a peer in one run
    python benchmarks/speed/million.py --rows 100000 --ray   also Ray with 2 workers, one of them killed

Synthetic shop pages of about 700 characters; one row in 20 repeats another, one in 20 nearly so.

Writes  benchmarks/results/million.md (million_ray.md with --ray)
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.speed.clean import machine
from sem.core import files
from sem.dataset.store import examples_table

ROOT = Path(__file__).resolve().parents[2]
TASK = {
    "task_id": "page",
    "task_version": "1.0.0",
    "base_model_id": "none",
    "system_prompt": "Extract.",
    "instruction_template": "{{input_text}}",
    "io_schema": {
        "type": "object",
        "properties": {"title": {"type": "string"}, "price": {"type": "number"}},
        "required": ["title", "price"],
        "additionalProperties": False,
    },
    "rubric": {},
    "eval_split": {"train_ratio": 0.8, "val_ratio": 0.1, "test_ratio": 0.1, "seed": 1},
}
# Of row i the content is that of its twin: every 20th repeats the row before it, every other
# 20th says one word and the price differently.
ROWS = """
INSERT INTO examples
SELECT printf('r%07d', (i * 7919) % {rows}), 'page', page, answer, meta, NULL, NULL FROM (
  SELECT i, '{{"url": "https://shop' || (twin % 5000) || '.example/p/' || twin || '"}}' AS meta,
    '<html><head><title>' || title || '</title><script>var x=' || i || ';</script></head><body>'
    || '<nav><a href="/">Home</a><a href="/sale">Sale</a></nav><h1>' || title || '</h1>'
    || '<p class="price">EUR ' || price || '</p><div class="description">' || body || '</div>'
    || '<footer>Imprint - contact info@shop' || (twin % 5000) || '.example</footer></body></html>'
      AS page,
    '{{"title": "' || title || '", "price": ' || price || '}}' AS answer
  FROM (
    SELECT i, twin, 'Item ' || twin || ' ' || 'w' || (hash(twin) % 4000) AS title,
      printf('%.2f', (hash(twin * 3) % 90000 + 100) / 100.0 + (i % 20 = 13)::INT) AS price,
      array_to_string(list_transform(range(60),
        lambda k: 'w' || (hash(twin * 61 + k) % 4000)
          || CASE WHEN k = 30 AND i % 20 = 13 THEN 'x' ELSE '' END),
        ' ') AS body
    FROM (
      SELECT i, CASE WHEN i % 20 IN (7, 13) THEN i - 1 ELSE i END AS twin
      FROM range({start}, {end}) t(i)
    )
  )
)
"""
BLOCK = 50_000


def build(root: Path, rows: int) -> Path:
    """Return a project called `million` under `root` with a store of `rows` rows."""
    import duckdb

    configs = root / "configs" / "million"
    files.write_file(configs / "tasks" / "page.yaml", yaml.safe_dump(TASK))
    files.write_file(configs / "dataset.yaml", "clean:\n  evidence_rows: 1000\n")
    path = root / "data" / "million" / "raw" / "dataset.duckdb"
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(examples_table.SCHEMA)
        for start in range(0, rows, BLOCK):
            end = min(rows, start + BLOCK)
            connection.execute(ROWS.format(rows=rows, start=start, end=end))
    return path


@dataclass
class Watch:
    """Memory of a process and everything it started, sampled twice a second."""

    pid: int
    # Bytes, proportional set size: shared pages count once.
    peak_tree: int = 0
    # Bytes resident in the first process.
    peak_main: int = 0
    killed: list[int] = field(default_factory=list)
    kill_worker: bool = False

    def run(self, done: threading.Event) -> None:
        began = time.monotonic()
        while not done.wait(0.5):
            tree = family(self.pid)
            self.peak_tree = max(self.peak_tree, sum(pss(pid) for pid in tree))
            self.peak_main = max(self.peak_main, rss(self.pid))
            if self.kill_worker and not self.killed and time.monotonic() - began > 12:
                self.kill(tree)

    def kill(self, tree: list[int]) -> None:
        """End one Ray worker that is at work, as an out-of-memory killer would."""
        busy = [pid for pid in tree if command(pid).startswith("ray::Map")]
        if busy:
            os.kill(busy[0], signal.SIGKILL)
            self.killed.append(busy[0])


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [pid]
    while pending:
        found.append(pending.pop())
        pending += children.get(found[-1], [])
    return found


def command(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return line.replace(b"\0", b" ").decode("utf-8", "replace")


def pss(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def rss(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")


def _kilobytes(path: Path, name: str) -> int:
    try:
        line = next(line for line in path.read_text().splitlines() if line.startswith(name))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) << 10


def clean(root: Path, *words: str, kill: bool = False) -> tuple[float, Watch, dict[str, str]]:
    """Seconds, memory and hashes of one `dataset_clean.py --sem million`."""
    env = {**os.environ, "SEM_ROOT": str(root)}
    script = [sys.executable, str(ROOT / "scripts" / "dataset_clean.py"), "--sem", "million"]
    began = time.perf_counter()
    process = subprocess.Popen([*script, *words], env=env)
    watch, done = Watch(process.pid, kill_worker=kill), threading.Event()
    thread = threading.Thread(target=watch.run, args=(done,))
    thread.start()
    code = process.wait()
    done.set()
    thread.join()
    if code:
        raise SystemExit(f"dataset_clean.py {words} ended with {code}")
    folder = root / "data" / "million" / "processed"
    hashes = {
        n: files.sha256_file(folder / n) for n in ("clean.jsonl", "rejects.jsonl", "clean.json")
    }
    return time.perf_counter() - began, watch, hashes


def peer(store: Path, rows: int) -> float:
    """Return rows a second of the usual script.

    Lxml's text of each page, datasketch for duplicates.
    """
    import duckdb
    from datasketch import MinHash, MinHashLSH
    from lxml import html

    with duckdb.connect(str(store), read_only=True) as connection:
        pages = connection.execute(
            "SELECT id, prompt_text FROM examples LIMIT ?", [rows]
        ).fetchall()
    index, kept = MinHashLSH(threshold=0.8, num_perm=128), 0
    began = time.perf_counter()
    for name, page in pages:
        tree = html.fromstring(page)
        for node in tree.xpath("//script|//style"):
            node.drop_tree()
        text = " ".join(tree.text_content().split()).casefold()
        sketch = MinHash(num_perm=128)
        sketch.update_batch({text[n : n + 5].encode() for n in range(max(1, len(text) - 4))})
        if not index.query(sketch):
            index.insert(name, sketch)
            kept += 1
    return len(pages) / (time.perf_counter() - began)


def gib(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--keep", type=Path, help="work here, and keep it")
    args = parser.parse_args()
    root = args.keep or Path(tempfile.mkdtemp(prefix="sem-million-"))
    shutil.rmtree(root, ignore_errors=True)
    store = build(root, args.rows)
    flags = " --ray" * args.ray
    lines = [
        f"# {args.rows:,} rows",
        "",
        f"{machine()}. Store {store.stat().st_size >> 20:,} MiB.",
        "",
        f"Command: `python benchmarks/speed/million.py --rows {args.rows}{flags}`",
        "",
        "| engine | seconds | rows/s | peak, main process | peak, all processes | sha256 |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    runs = [("local, 2 workers", (), False)]
    if args.ray:
        runs += [
            ("Ray, 2 workers", ("--engine", "ray"), False),
            ("Ray, a worker killed", ("--engine", "ray"), True),
        ]
    seen = []
    for name, words, kill in runs:
        seconds, watch, hashes = clean(root, *words, kill=kill)
        seen.append(hashes)
        note = f" (killed {len(watch.killed)})" if kill else ""
        cells = (
            f"{name}{note}",
            f"{seconds:,.0f}",
            f"{args.rows / seconds:,.0f}",
            gib(watch.peak_main),
            gib(watch.peak_tree),
            f"`{hashes['clean.jsonl'][:16]}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    same = all(one == seen[0] for one in seen)
    if args.ray:
        said = "equal" if same else "NOT EQUAL"
        lines += ["", f"clean.jsonl, rejects.jsonl and clean.json: {said} by sha256 in all three."]
    else:
        rate = peer(store, min(args.rows, 20_000))
        lines += [
            "",
            "The peer in the same run, lxml text and datasketch on one core, 20,000 of the rows: "
            f"{rate:,.0f} rows/s",
            "(its index holds everything in memory; no schema, no personal data, no order, no "
            "rejects).",
        ]
    report = (root / "reports" / "million" / "dataset_validation.md").read_text().splitlines()
    told = ("Store", "| clusters", "| rows |", "| largest", "| compared", "| skipped")
    lines += ["", *(line for line in report if line.startswith(told))]
    text = "\n".join(lines) + "\n"
    name = "million_ray.md" if args.ray else "million.md"
    (ROOT / "benchmarks" / "results" / name).write_text(text, "utf-8")
    print(text)
    if not args.keep:
        shutil.rmtree(root)
    if not same:
        raise SystemExit("the engines differ")


if __name__ == "__main__":
    main()
