"""R7 and R19: every stage on a full disk, then with space again; and no network call in any.

    sudo python benchmarks/faults/diskfull.py        (mounts a small tmpfs; Linux, root)

The toy project of the tests lies on a 96 MB tmpfs that is filled up before each stage. A stage is
clean when it ends non-zero with one `error:` line and no traceback, leaves every finished file as
it was, and succeeds once space is freed. An audit hook refuses and counts sockets in every run.

Writes  benchmarks/results/faults_diskfull.md
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sem.core import console, files, jsonio
from sem.core.errors import SemError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
SITES = (
    "dataset_import",
    "dataset_clean",
    "dataset_split",
    "dataset_stats",
    "train_prepare",
    "eval_generate --run base",
    "train_run",
    "eval_generate",
    "eval_report",
    "package_export",
    "dataset_clean",
    "dataset_import again",
)
AUDIT = """import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open({log!r}, "a") as file:
            file.write(f"{{event}} {{args[1:]!r}}\\n")
        raise OSError("no network in this run")
sys.addaudithook(refuse)
"""


def main(argv: list[str] | None = None) -> None:
    console.make_argument_parser(__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory() as outside:
        disk = Path(outside) / "disk"
        disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)])
        if done.returncode:
            raise SemError("cannot mount a tmpfs", "run it as root on Linux")
        try:
            rows = measure(Path(outside), disk)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
    columns = ("stage", "exit", "error line", "files intact", "succeeds after", "network calls")
    console.print_table("full disk", columns, rows)
    clean = sum(row[1:5] == ("1", "yes", "yes", "yes") for row in rows)
    lines = [
        "# Full disk (R7) and network calls (R19)",
        "Command: `sudo python benchmarks/faults/diskfull.py`",
        "",
        f"{clean} of {len(rows)} write sites clean; "
        f"{sum(int(row[5]) for row in rows)} network calls.",
        "",
    ]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    path = ROOT / "benchmarks" / "results" / "faults_diskfull.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def measure(outside: Path, disk: Path) -> list[tuple[str, ...]]:
    """Return one row a write site."""
    from toy import SPEC, TRAIN, make_model, make_store

    log, hooks = outside / "network.log", outside / "hooks"
    files.write_file(hooks / "sitecustomize.py", AUDIT.format(log=str(log)))
    temporary = outside / "tmp"
    temporary.mkdir()
    os.environ |= {
        "SEM_ROOT": str(disk),
        "SEM_DEVICE": "cpu",
        "PYTHONPATH": str(hooks),
        "TMPDIR": str(temporary),
    }
    spec = jsonio.pretty_json(SPEC | {"base_model_id": str(make_model(outside / "tiny"))})
    files.write_file(disk / "configs" / "toy" / "tasks" / "price.json", spec)
    files.write_file(disk / "configs" / "toy" / "train.yaml", TRAIN)
    files.write_file(disk / "configs" / "toy" / "eval.yaml", "batch: 4\nmax_new_tokens: 8\n")
    source = make_store(outside / "rows.duckdb")
    second = make_store(outside / "more.duckdb", shops=40, pages=40)
    rows = []
    for site in SITES:
        stage, *flags = site.replace(" again", "").split()
        extra = [str(second if "again" in site else source)] if stage == "dataset_import" else []
        conflict = ["--on-conflict", "skip"] if "again" in site else []
        words = [stage, "--sem", "toy", *flags, *extra, *conflict]
        if site == SITES[-2]:
            words += ["--set", "dataset.clean.default.max_chars=60"]
        rows.append((site, *attempt(words, disk, log)))
        console.print_note(str(rows[-1]))
    return rows


def attempt(words: list[str], disk: Path, log: Path) -> tuple[str, ...]:
    """Run `words` on the full `disk`, then with space.

    (exit, error line, intact, after, calls).
    """
    before = hashes(disk)
    fill(disk)
    log.unlink(missing_ok=True)
    full = run(words)
    (disk / "ballast").unlink()
    kept = {path: digest for path, digest in hashes(disk).items() if path in before}
    intact = kept == before
    after = run(words)
    if after.returncode:
        console.print_note(after.stderr[-1500:])
    told = "error:" in full.stderr and "Traceback" not in full.stderr
    if not told:
        console.print_note(full.stderr[-1500:])
    calls = len(log.read_text().splitlines()) if log.exists() else 0
    succeeded = "yes" if after.returncode == 0 else "no"
    return (
        str(full.returncode),
        "yes" if told else "no",
        "yes" if intact else "no",
        succeeded,
        str(calls),
    )


def fill(disk: Path) -> None:
    """Leave no free block on `disk`."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 512:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def hashes(disk: Path) -> dict[str, str]:
    """Return every finished file on `disk`.

    Locks, logs that grow and temporary files are left out.
    """
    return {
        str(path): files.sha256_file(path)
        for path in disk.rglob("*")
        if path.is_file()
        and path.suffix in (".jsonl", ".json", ".md", ".duckdb", ".safetensors")
        and not path.name.startswith(".")
        and "answers" not in path.name
    }


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / f"{words[0]}.py"), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


if __name__ == "__main__":
    console.run_main(main)
