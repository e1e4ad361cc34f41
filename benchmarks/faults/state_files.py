"""Corrupt every state file of a finished sem in every way, and run each job that reads it.

    python benchmarks/faults/state_files.py            about ten minutes of one core
    python benchmarks/faults/state_files.py --only promoted.json --jobs

A job may end well (what was damaged was not needed, or is made again) or with one error that names
the file. A traceback is a fault. Which jobs read which file is not written down here: an audit
hook sees what each job opens on a whole tree.

Writes  benchmarks/results/faults_state_files.md
"""

import argparse
import contextlib
import io
import json
import os
import runpy
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
os.environ |= {"SEM_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "SEM_OFFLINE": "1"}

from sem.core import files, jsonio  # noqa: E402
from sem.core.errors import SemError  # noqa: E402

SEM = "toy"
# Every job that a person or cron runs on a finished sem. {run} is its run.
JOBS: dict[str, list[str]] = {
    "sem_status": [],
    "dataset_stats": [],
    "dataset_diff": ["v1", "v1"],
    "dataset_export": ["--format", "messages", "--out", "{out}"],
    "dataset_augment": [],
    "dataset_split": [],
    "dataset_clean": [],
    "dataset_takedown": ["--id", "p00-0", "--reason", "asked"],
    "train_show": ["--rows", "1"],
    "train_prepare": [],
    "train_compare": ["{run}", "{run}"],
    "eval_generate": ["--run", "{run}"],
    "eval_report": ["--run", "{run}"],
    "eval_gate": ["--run", "{run}"],
    "eval_sample": ["--run", "{run}", "--count", "3"],
    "package_export": ["--run", "{run}"],
    "package_verify": ["--run", "{run}", "--answers", "1"],
    "ops_promote": ["--run", "{run}", "--reason", "again"],
    "ops_nightly": ["--again"],
    "ops_backfill": ["--since", "v1", "--dry-run"],
    "ops_project_tokens": ["--run", "{run}"],
}
HUGE = 40_000_000  # characters of one text: above what any state file may hold


def whole(path: Path) -> dict[str, bytes | None]:
    """Every corruption of the file at `path` by name; None stands for a folder in its place."""
    content = path.read_bytes()
    lines = path.suffix == ".jsonl"
    made: dict[str, bytes | None] = {
        "null": b"null\n",
        "list": b"[]\n",
        "number": b"5\n",
        "text": b'"x"\n',
        "empty object": b"{}\n",
        "folder": None,
        "cut": content[: len(content) // 2],
        "empty": b"",
        "bytes": b"\xff\xfe\x00\x01" * 8,
        "deep": b"[" * 100_000,
    }
    if not lines:
        made["huge"] = b'{"x": "' + b"x" * HUGE + b'"}'
    return made | nested(path, content)


def nested(path: Path, content: bytes) -> dict[str, bytes | None]:
    """The file with one value at a time replaced by another type, three levels down."""
    if path.suffix == ".yaml":
        from sem.core import settings

        value = settings.parse_yaml(content.decode(), "")
    elif path.suffix == ".jsonl":
        value = json.loads(content.splitlines()[0]) if content.strip() else {}
    else:
        value = json.loads(content)
    made: dict[str, bytes | None] = {}
    for place in places(value):
        for name, other in (("null", None), ("list", [1]), ("number", 7), ("text", "x")):
            changed = json.loads(json.dumps(value))
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            if type(inner[place[-1]]) is type(other):
                continue
            inner[place[-1]] = other
            text = json.dumps(changed).encode() + b"\n"
            if path.suffix == ".jsonl":
                text += b"".join(line + b"\n" for line in content.splitlines()[1:])
            made[f"{'.'.join(map(str, place))} = {name}"] = text
    return made


def places(value: object, depth: int = 3) -> Iterator[tuple[object, ...]]:
    """The ways to every value of `value`, at most `depth` keys long and 4 of a list."""
    if depth == 0:
        return
    pairs = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = list(enumerate(value))[:2]
    for key, inner in list(pairs)[:40]:
        yield (key,)
        yield from ((key, *rest) for rest in places(inner, depth - 1))


@dataclass(frozen=True)
class Tree:
    """A finished sem below `root`, and what each job opens there."""

    root: Path
    run: str
    readers: dict[str, list[str]]  # file below the root -> jobs that read it


def words_of(job: str, run: str, root: Path) -> list[str]:
    filled = [w.format(run=run, out=root / "out.jsonl") for w in JOBS[job]]
    return ["--sem", SEM, *filled]


def finish(root: Path) -> str:
    """Run the whole path of a toy sem below `root`; the id of its run."""
    import toy
    from conftest import TRAIN

    model = toy.make_model(root / "weights" / "tiny")
    assert model.is_dir()
    spec = toy.SPEC | {"base_model_id": "weights/tiny"}
    configs = root / "configs" / SEM
    files.write(configs / "tasks" / "price.json", jsonio.pretty(spec))
    files.write(configs / "train.yaml", TRAIN)
    files.write(configs / "eval.yaml", "batch: 4\nmax_new_tokens: 8\ndraws: 200\n")
    toy.make_store(root / "data" / SEM / "raw" / "dataset.duckdb")
    for name in ("gate.yaml", "judge_slots.yaml", "budget.yaml"):
        shutil.copy(ROOT / "configs" / name, root / "configs" / name)
    shutil.copytree(ROOT / "configs" / "schemas", root / "configs" / "schemas")
    script("pipeline", ["--sem", SEM])
    (run,) = (path.name for path in (root / "models" / SEM / "packages").glob("2*"))
    with contextlib.suppress(SemError):
        script("eval_gate", ["--sem", SEM, "--run", run])
    script("ops_promote", ["--sem", SEM, "--run", run, "--reason", "the first"])
    script("ops_nightly", ["--sem", SEM])
    return run


def script(name: str, words: list[str]) -> None:
    """Run scripts/NAME.py in this process, its output thrown away."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        runpy.run_path(str(ROOT / "scripts" / f"{name}.py"))["main"](words)


OPENED: set[str] = set()


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        OPENED.add(os.fsdecode(arguments[0]))


def make(place: Path) -> Tree:
    """A finished tree, and what each job of JOBS reads of it."""
    root = place / "whole"
    os.environ["SEM_ROOT"] = str(root)
    run = finish(root)
    readers: dict[str, list[str]] = {}
    sys.addaudithook(_hear)
    for job in JOBS:
        copy = shutil.copytree(root, place / "copy")
        os.environ["SEM_ROOT"] = str(copy)
        OPENED.clear()
        try:
            script(job, words_of(job, run, copy))
        except SemError as error:
            print(f"note: {job}: {error.message}", file=sys.stderr)
        for name in sorted(OPENED):
            below = Path(name)
            if below.is_relative_to(copy) and (root / below.relative_to(copy)).is_file():
                readers.setdefault(str(below.relative_to(copy)), []).append(job)
        shutil.rmtree(copy)
    return Tree(root, run, readers)


def is_state(name: str) -> bool:
    """Whether the file is written by a job and read back; weights and rows of data are not."""
    path = Path(name)
    return (
        path.suffix in (".json", ".jsonl", ".yaml")
        and path.parts[0] != "weights"
        and path.parts[0] != "configs"
    ) or path.name == "datasets.yaml"


def tried(tree: Tree, place: Path, name: str, content: bytes | None, job: str) -> str | None:
    """The traceback of `job` on a tree whose file `name` holds `content`; None for none."""
    copy = shutil.copytree(tree.root, place / "copy", dirs_exist_ok=True)
    os.environ["SEM_ROOT"] = str(copy)
    path = copy / name
    path.parent.chmod(0o755)
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    try:
        script(job, words_of(job, tree.run, copy))
    except SemError:
        return None
    except SystemExit as ended:
        return None if isinstance(ended.code, int) else str(ended.code)
    except Exception:
        return traceback.format_exc()
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="files whose path holds this text")
    parser.add_argument("--kind", help="corruptions whose name holds this text")
    parser.add_argument("--tracebacks", action="store_true", help="print each traceback")
    args = parser.parse_args()
    rows, faults = [], {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        tree = make(place)
        for path, jobs in sorted(tree.readers.items()):
            if not is_state(path) or (args.only and args.only not in path):
                continue
            shown = path.replace(tree.run, "RUN")
            count = 0
            for kind, content in whole(tree.root / path).items():
                if args.kind and args.kind not in kind:
                    continue
                for job in jobs:
                    count += 1
                    if text := tried(tree, place, path, content, job):
                        faults[shown, kind, job] = text
            wrong = sum(key[0] == shown for key in faults)
            rows.append((shown, len(jobs), count, wrong))
            print(f"{shown}: {count} runs of {len(jobs)} jobs, {wrong} tracebacks", flush=True)
    for key, text in faults.items():
        print(*key, "|", text.strip().splitlines()[-1][:150])
        if args.tracebacks:
            print(text)
    if not args.only and not args.kind:
        write(rows, faults)


def write(rows: list[tuple[str, int, int, int]], faults: dict[tuple[str, str, str], str]) -> None:
    """Write the table."""
    lines = [
        "# State files, corrupted",
        "",
        "`python benchmarks/faults/state_files.py`: each state file of a finished sem is replaced",
        "by null, a list, a number, a folder, half of itself and so on, whole and value by value,",
        "and each job that reads it is run. An error that names the file is right; a traceback is",
        "a fault.",
        "",
        "| file | jobs that read it | runs | tracebacks |",
        "|---|---|---|---|",
        *(f"| {name} | {jobs} | {count} | {wrong} |" for name, jobs, count, wrong in rows),
        f"| all | | {sum(row[2] for row in rows)} | {len(faults)} |",
    ]
    (ROOT / "benchmarks/results/faults_state_files.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
