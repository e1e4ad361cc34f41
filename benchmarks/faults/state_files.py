"""Corrupt every state file of a finished sem in every way, and run each job that reads it.

    python benchmarks/faults/state_files.py                      whole files, every job
    python benchmarks/faults/state_files.py --values 20          one value of a file at a time
    python benchmarks/faults/state_files.py --only promoted.json --tracebacks

A job may end well (what was damaged was not needed, or is made again) or with one error. A
traceback is a fault. Which jobs read which file is not written down here: an audit hook sees what
each job opens on a whole tree.

All runs share one tree: what a run changed is put back before the next one. Weights and
checkpoints in it are hard links to the whole tree, whose digest is the same at the end.

Writes  benchmarks/results/faults_state_files.md
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
os.environ |= {"SEM_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "SEM_OFFLINE": "1"}

from sem.core import files, jsonio, settings  # noqa: E402
from sem.core.errors import SemError  # noqa: E402
from sem.jobs import load_jobs  # noqa: E402

SEM = "toy"
# Every job that a person or cron runs on a finished sem. {run} and {other} are its runs, {begun}
# a copy of {run} that was stopped behind its last checkpoint.
JOBS: dict[str, list[str]] = {
    "sem_list": [],
    "sem_status": [],
    "dataset_stats": [],
    "dataset_diff": ["v2", "v2"],
    "dataset_export": ["--format", "messages", "--out", "{out}"],
    "dataset_augment": [],
    "dataset_split": [],
    "dataset_clean": [],
    "dataset_import": ["{chunk}"],
    "dataset_takedown": ["--id", "p00-0", "--reason", "asked"],
    "train_show": ["--rows", "1"],
    "train_prepare": [],
    "train_run": ["--run", "{begun}", "--resume"],
    "train_compare": ["{run}", "{other}"],
    "eval_generate": ["--run", "{run}"],
    "eval_report": ["--run", "{run}"],
    "eval_gate": ["--run", "{run}"],
    "eval_sample": ["--run", "{run}", "--count", "3"],
    "golden_check": [],
    "package_export": ["--run", "{run}"],
    "package_verify": ["--run", "{run}", "--answers", "1"],
    "ops_promote": ["--run", "{run}", "--reason", "again"],
    "ops_nightly": ["--again"],
    "ops_backfill": ["--since", "v2", "--dry-run"],
    "ops_project_tokens": ["--run", "{run}"],
}
# It looks for traces in every file, whatever it holds: files that no other job reads share a run.
SCANS_ALL = "dataset_takedown"
# A job never writes in place here, so its tree may share these files with the whole one.
LINKED = (".safetensors", ".pt", ".pth", ".bin", ".jinja", ".md", ".html", ".svg")


# Spaces, because a takedown folds them: as many letters take it 10 s to look through.
HUGE = b'{"x": "' + b" " * (jsonio.MAX_CHARS + 1) + b'"}\n'
# What replaces a whole file, by kind; None stands for a folder.
KINDS: dict[str, Callable[[bytes], bytes | None]] = {
    "null": lambda content: b"null\n",
    "list": lambda content: b"[]\n",
    "number": lambda content: b"5\n",
    "text": lambda content: b'"x"\n',
    "empty object": lambda content: b"{}\n",
    "folder": lambda content: None,
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "bytes": lambda content: b"\xff\xfe\x00\x01" * 8,
    "deep": lambda content: b"[" * 100_000,
    "huge": lambda content: HUGE,
}


def single_values(path: Path, content: bytes) -> dict[str, bytes | None]:
    """Return the file with one value at a time replaced by another type, three levels down."""
    if path.suffix == ".yaml":
        value = settings.parse_yaml(content.decode(), "")
    elif path.suffix == ".jsonl":
        value = json.loads(content.splitlines()[0]) if content.strip() else {}
    else:
        value = json.loads(content)
    cases: dict[str, bytes | None] = {}
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
            cases[f"{'.'.join(map(str, place))} = {name}"] = text
    return cases


def places(value: object, depth: int = 3) -> Iterator[tuple[object, ...]]:
    """Yield the ways to the values of `value`, at most `depth` keys long and two of a list."""
    if depth == 0:
        return
    pairs = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = list(enumerate(value))[:2]
    for key, inner in list(pairs)[:40]:
        yield (key,)
        yield from ((key, *rest) for rest in places(inner, depth - 1))


def corruptions(path: Path, values: int) -> dict[str, bytes | None]:
    """Return the contents to try for the file at `path`: whole, or `values` single ones."""
    content = path.read_bytes()
    if not values:
        return {kind: corrupt(content) for kind, corrupt in KINDS.items()}
    cases = single_values(path, content)
    names = random.Random(path.name).sample(sorted(cases), min(values, len(cases)))
    return {name: cases[name] for name in names}


@dataclass(frozen=True)
class Tree:
    """A finished sem below `root`, the copy that jobs run in, and what each job reads there."""

    root: Path
    copy: Path
    # What stands in braces in JOBS.
    names: dict[str, str]
    # File below the root -> jobs that read it.
    readers: dict[str, list[str]]

    def words(self, job: str) -> list[str]:
        """Return the arguments of `job`."""
        words = [word.format(**self.names) for word in JOBS[job]]
        return words if job == "sem_list" else ["--sem", SEM, *words]

    def shown(self, name: str) -> str:
        """Return the path `name` without what differs by the day."""
        for key in ("run", "other", "begun"):
            name = name.replace(self.names[key], key.upper())
        return name


Entry = tuple[int, ...]


def entry_of(path: Path) -> Entry:
    """Return what tells that the file at `path` was changed; of a folder its type alone."""
    seen = path.lstat()
    if stat.S_ISDIR(seen.st_mode):
        return (stat.S_IFDIR,)
    return (seen.st_mode, seen.st_ino, seen.st_size, seen.st_mtime_ns)


def put_back(tree: Tree, known: dict[str, Entry]) -> None:
    """Make the copy equal to the whole tree, of which `known` has been copied."""
    present = {str(p.relative_to(tree.copy)): entry_of(p) for p in tree.copy.rglob("*")}
    for name in sorted(present, reverse=True):
        if present[name] == known.get(name):
            continue
        path = tree.copy / name
        path.rmdir() if present[name] == (stat.S_IFDIR,) else path.unlink()
    for path in sorted(tree.root.rglob("*")):
        name = str(path.relative_to(tree.root))
        if name not in known or present.get(name) != known[name]:
            put_copy(path, tree.copy / name)
            known[name] = entry_of(tree.copy / name)


def put_copy(source: Path, target: Path) -> None:
    """Put what is at `source` at `target`: a folder, a file, or a hard link to it."""
    if source.is_dir():
        target.mkdir()
    elif source.suffix in LINKED:
        os.link(source, target)
    else:
        shutil.copyfile(source, target)


def digest(root: Path) -> str:
    """Return one digest of every name and content below `root`."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return files.sha256_json([[str(p.relative_to(root)), files.sha256_file(p)] for p in paths])


def script(name: str, words: list[str]) -> None:
    """Run the job of scripts/NAME.py in this process, its output thrown away."""
    (job,) = (job for job in load_jobs().values() if job.script == name)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        job.call(words)


def finish(root: Path) -> dict[str, str]:
    """Pass the whole path of a toy sem below `root`; return what JOBS puts in braces."""
    import toy
    from toy import TRAIN

    toy.make_model(root / "weights" / "tiny")
    spec = toy.SPEC | {"base_model_id": "weights/tiny"}
    configs = root / "configs" / SEM
    files.write_file(configs / "tasks" / "price.json", jsonio.pretty_json(spec))
    files.write_file(configs / "train.yaml", TRAIN)
    files.write_file(configs / "eval.yaml", "batch: 4\nmax_new_tokens: 8\ndraws: 200\n")
    # A cage for each core is most of what cleaning 60 pages takes.
    files.write_file(configs / "dataset.yaml", "clean: {workers: 1}\n")
    toy.make_store(root / "data" / SEM / "raw" / "dataset.duckdb")
    for name in ("gate.yaml", "judge_slots.yaml", "budget.yaml"):
        shutil.copy(ROOT / "configs" / name, root / "configs" / name)
    shutil.copytree(ROOT / "configs" / "schemas", root / "configs" / "schemas")

    def job(name: str, *words: str) -> None:
        script(name, ["--sem", SEM, *words])

    def chunk(number: int) -> None:
        page, reference = toy.page(20 + number, 0)
        row = {"id": f"n{number}", "task": "price", "input_text": page, "output_json": reference}
        files.write_rows(root / "incoming" / f"chunk{number}.jsonl", [row])

    chunk(1)
    job("dataset_import", str(root / "incoming" / "chunk1.jsonl"))
    job("dataset_clean")
    job("dataset_split")
    job("dataset_takedown", "--id", "p01-0", "--reason", "asked")
    job("pipeline")
    (run,) = (path.name for path in (root / "models" / SEM / "packages").glob("2*"))
    job("dataset_augment")
    question, answer = toy.page(30, 0)
    job("golden_add", "--question", question, "--answer", json.dumps(answer))
    job("train_prepare", "--set", "train.seed=2")
    adapters = root / "models" / SEM / "adapters"
    (other,) = (path.name for path in adapters.glob("2*") if path.name != run)
    job("train_run", "--run", other)
    for name in (run, other):
        job("eval_generate", "--run", name)
        job("eval_report", "--run", name)
    with contextlib.suppress(SemError):
        job("eval_gate", "--run", run)
    job("ops_promote", "--run", run, "--reason", "the first")
    job("ops_nightly")
    begun = "20260101-000000-beef"
    shutil.copytree(adapters / run, adapters / begun)
    (adapters / begun / "manifest.json").unlink()
    shutil.rmtree(adapters / begun / "adapter")
    chunk(2)
    return {"run": run, "other": other, "begun": begun}


OPENED: set[str] = set()


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        OPENED.add(os.fsdecode(arguments[0]))


def make(folder: Path) -> tuple[Tree, dict[str, Entry]]:
    """Make a finished tree in `folder`, its copy, and hear what each job of JOBS opens there."""
    root, copy = folder / "whole", folder / "copy"
    os.environ["SEM_ROOT"] = str(root)
    names = finish(root)
    names |= {"out": str(copy / "out.jsonl"), "chunk": str(copy / "incoming" / "chunk2.jsonl")}
    copy.mkdir()
    tree, known = Tree(root, copy, names, {}), {}
    os.environ["SEM_ROOT"] = str(copy)
    sys.addaudithook(_hear)
    for job in JOBS:
        put_back(tree, known)
        OPENED.clear()
        began = time.monotonic()
        try:
            script(job, tree.words(job))
            ending = "ends well"
        except SemError as error:
            ending = error.message
        print(f"{job}: {time.monotonic() - began:.1f} s, {ending}", file=sys.stderr)
        for name in sorted(OPENED):
            path = Path(name)
            if path.is_relative_to(copy) and (root / path.relative_to(copy)).is_file():
                tree.readers.setdefault(str(path.relative_to(copy)), []).append(job)
    return tree, known


def is_state(name: str) -> bool:
    """Return True if the file is written by a job and read back, not a setting or weights."""
    path = Path(name)
    return path.name == "datasets.yaml" or (
        path.suffix in (".json", ".jsonl", ".yaml")
        and path.parts[0] not in ("weights", "configs", "incoming")
    )


def ending_of(
    tree: Tree, known: dict[str, Entry], contents: dict[str, bytes | None], job: str
) -> tuple[str, str]:
    """Return how `job` ends where files hold other `contents`: a word, and its last words."""
    put_back(tree, known)
    for name, content in contents.items():
        path = tree.copy / name
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
    try:
        script(job, tree.words(job))
    except SemError as error:
        return "error", f"{error.message} | {error.hint}"
    except SystemExit as ended:
        return ("error" if ended.code else "well"), str(ended.code)
    except Exception:
        return "traceback", traceback.format_exc()
    return "well", ""


@dataclass(frozen=True)
class Ending:
    """How `job` ends on a tree whose `file` is corrupted: well, with an error, a traceback."""

    file: str
    kind: str
    job: str
    word: str
    text: str


def endings_of(tree: Tree, known: dict[str, Entry], args: Any) -> Iterator[Ending]:
    """Yield the ending of every job on every corrupted file that it reads."""
    names = [name for name in sorted(tree.readers) if is_state(name) and (args.only or "") in name]
    jobs = {n: [job for job in tree.readers[n] if args.job in (None, job)] for n in names}
    together = [name for name in names if jobs[name] == [SCANS_ALL] and not args.values]
    for name in names:
        for kind, content in corruptions(tree.root / name, args.values).items():
            for job in jobs[name] if name not in together and (args.kind or "") in kind else ():
                word, text = ending_of(tree, known, {name: content}, job)
                yield Ending(tree.shown(name), kind, job, word, text)
        print(f"{tree.shown(name)}: {len(jobs[name])} jobs", flush=True)
    contents = {name: (tree.root / name).read_bytes() for name in together}
    for kind, corrupt in KINDS.items() if together else ():
        if (args.kind or "") in kind:
            replaced = {name: corrupt(content) for name, content in contents.items()}
            yield from endings_together(tree, known, replaced, kind)


def endings_together(
    tree: Tree, known: dict[str, Entry], contents: dict[str, bytes | None], kind: str
) -> Iterator[Ending]:
    """Yield the ending of a takedown on each of the files: of all in one run if it ends well."""
    word, text = ending_of(tree, known, contents, SCANS_ALL)
    for name, content in contents.items():
        if word != "well":
            word_of_one, text = ending_of(tree, known, {name: content}, SCANS_ALL)
            yield Ending(tree.shown(name), kind, SCANS_ALL, word_of_one, text)
        else:
            yield Ending(tree.shown(name), kind, SCANS_ALL, word, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="files whose path holds this text")
    parser.add_argument("--kind", help="corruptions whose name holds this text")
    parser.add_argument("--job", help="this job alone")
    parser.add_argument(
        "--values",
        type=int,
        default=0,
        metavar="N",
        help="N single values of each file, not the whole file",
    )
    parser.add_argument("--tracebacks", action="store_true", help="print each traceback")
    parser.add_argument("--endings", type=Path, help="write each ending to this file")
    args = parser.parse_args()
    # A power cut is not the subject, and a sync is a third of many a run.
    os.fsync = lambda descriptor: None
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree, known = make(Path(folder))
        whole, ready = digest(tree.root), time.monotonic()
        endings = []
        for ending in endings_of(tree, known, args):
            endings.append(ending)
            if ending.word == "traceback":
                print(ending.file, ending.kind, ending.job, ending.text.splitlines()[-1][:150])
            if ending.word == "traceback" and args.tracebacks:
                print(ending.text, flush=True)
        assert digest(tree.root) == whole, "a job wrote through a hard link"
    if args.endings:
        files.write_rows(args.endings, map(vars, endings))
    seconds, words = time.monotonic() - began, Counter(ending.word for ending in endings)
    print(f"{dict(words)}, {ready - began:.0f} s for the tree, {seconds:.0f} s in all")
    if not (args.only or args.kind or args.job or args.values):
        write(endings, seconds)


def write(endings: list[Ending], seconds: float) -> None:
    """Write the table."""
    words = ("error", "well", "traceback")
    total = Counter(ending.word for ending in endings)
    names = list(dict.fromkeys(ending.file for ending in endings))
    kinds = list(dict.fromkeys(ending.kind for ending in endings))
    lines = [
        "# State files, corrupted",
        "",
        "`python benchmarks/faults/state_files.py`: each state file of a finished toy sem is",
        f"replaced by {len(kinds)} things ({', '.join(kinds)}), and",
        "each job that reads it is run. A job ends with its one error, or well, where it does",
        "not need the file or makes it again. A traceback is a fault.",
        "",
        f"{len(names)} files, {len(endings):,} endings of {len(JOBS)} jobs:",
        f"**{total['traceback']} tracebacks**. {seconds:.0f} s of one core.",
        "",
        "| file | jobs that read it | one error | ends well | tracebacks |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        own = [ending for ending in endings if ending.file == name]
        counts = Counter(ending.word for ending in own)
        cells = [name, len({ending.job for ending in own}), *(counts[word] for word in words)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines.append(f"| all | | {' | '.join(str(total[word]) for word in words)} |")
    (ROOT / "benchmarks/results/faults_state_files.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
