"""R13 and R19: bad contributions through `hokusai-preview`, each in a process of its own.

The processes are forked from one that has loaded the libraries, so that CPU seconds are the
command's own.

    python benchmarks/faults/contributions.py [--only NAME]

A refused one is handled when it says one line that names the file and the fault and one hint,
exits with 1, writes nothing although files are named, and takes no more than 2 CPU seconds and
512 MB. One that can be read must give a result. Every process counts its attempts to use the
network (an audit hook), and runs in a network namespace without any device where the system lets
it.

Writes  benchmarks/results/faults_contributions.md
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(HERE)]

from benchmarks.faults import contribution_matrix  # noqa: E402
from benchmarks.faults.contribution_cases import CASES, GOOD, MODELS, READ, Case, csv  # noqa: E402

CPU_S, MIB = 2.0, 512
ALONE = "SEM_BENCHMARK_ALONE"
TO_READ = ("read", "odd rows in every form")
OUTPUTS = ("out.json", "zk.json", "new.safetensors")
NETWORK = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.bind",
    "socket.sendto",
    "socket.gethostbyname",
    "urllib.Request",
)


@dataclass(frozen=True)
class Ran:
    """One process: how it ended and what it took."""

    code: int
    out: str
    err: str
    cpu_s: float
    mib: float
    network: int


def main() -> None:
    from benchmarks.speed.clean import machine

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    only = parser.parse_args().only
    unshare()
    load()
    rows, faults, calls, slowest, largest = [], [], 0, 0.0, 0.0
    families = {
        "refused": CASES,
        "read": READ,
        "offered as a model": MODELS,
        "bad rows in every form": list(contribution_matrix.refused()),
        "odd rows in every form": list(contribution_matrix.read()),
    }
    for family, cases in families.items():
        cases = [case for case in cases if only in case[0]]
        good = 0
        for case in cases:
            ran, wrong = tried(case, family)
            calls += ran.network
            if family not in TO_READ:
                slowest, largest = max(slowest, ran.cpu_s), max(largest, ran.mib)
            good += not wrong
            faults += [f"{case[0]}: {line}" for line in wrong]
            last = ran.err.strip().splitlines()
            print(
                f"{case[0]:26} {ran.code} {ran.cpu_s:5.1f} s {ran.mib:5.0f} MiB "
                f"{(last[-2] if len(last) > 1 else '')[:110]}",
                flush=True,
            )
        rows.append(f"| R13 | {family} | {good}/{len(cases)} |")
    where = (
        "in a network namespace without devices"
        if os.environ.get(ALONE) == "yes"
        else "no namespace: not allowed here"
    )
    count = sum(len([c for c in cases if only in c[0]]) for cases in families.values())
    rows += [
        f"| R13 | all | {count - len({line.partition(':')[0] for line in faults})}/{count} |",
        f"| R13 | most CPU seconds of a refusal | {slowest:.1f} |",
        f"| R13 | most memory of a refusal, MiB | {largest:.0f} |",
        f"| R19 | network calls by {count} processes, {where} | {calls} |",
    ]
    report = [
        "# Bad contributions (R13, R19)",
        "",
        f"`python benchmarks/faults/contributions.py`. {machine()}.",
        "",
        "| row | what | found |",
        "|---|---|---|",
        *rows,
        "",
        *([f"- {line}" for line in faults] or ["No case was handled otherwise."]),
    ]
    print("\n".join(report))
    if not only:
        from sem.core import files

        files.write_file(
            ROOT / "benchmarks/results/faults_contributions.md", "\n".join(report) + "\n"
        )


def tried(case: Case, family: str) -> tuple[Ran, list[str]]:
    """Return `case` through the command, and what is wrong with how it was handled."""
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        argv = prepared(case, family, folder)
        before = sorted(folder.rglob("*"))
        ran = process(argv, folder)
        new = sorted(set(folder.rglob("*")) - set(before))
        wrong = [f"{ran.network} network calls"] if ran.network else []
        if family in TO_READ:
            return ran, wrong + misread(ran, folder)
        return ran, wrong + misrefused(ran, case[1], new)


def prepared(case: Case, family: str, folder: Path) -> list[str]:
    """Return the arguments that offer `case`, which is put into `folder`."""
    name, _, made = case
    path = folder / name
    if isinstance(made, bytes):
        path.write_bytes(made)
    else:
        made(path)
    argv = ["--data-path", str(path), "--test-mode", "--output-format", "json"]
    if family == "offered as a model":
        (folder / "base.csv").write_bytes(csv(GOOD))
        (folder / "good.csv").write_bytes(csv([(f"{t} now", b) for t, b in GOOD]))
        configs = folder / "configs" / "it"
        (configs / "tasks").mkdir(parents=True)
        (configs / "preview.yaml").write_text("base: base.csv\nbenchmark: base.csv\n")
        argv = [
            "--data-path",
            str(folder / "good.csv"),
            "--sem",
            "it",
            "--baseline-model",
            str(path),
            "--test-mode",
            "--output-format",
            "json",
        ]
    flags = zip(("--output-file", "--zk", "--save-model"), OUTPUTS, strict=True)
    return [*argv, *(word for flag, out in flags for word in (flag, str(folder / out)))]


def misread(ran: Ran, folder: Path) -> list[str]:
    """Return what is wrong with a case that can be read."""
    if ran.code:
        return [f"exit {ran.code}: {ran.err[-200:]}"]
    told = json.loads(ran.out)
    wrong = [f"{name} is not written" for name in OUTPUTS if not (folder / name).exists()]
    if told["disclaimer"][:34] != "PREVIEW - NON-BINDING ESTIMATE: co":
        wrong.append("no disclaimer")
    return wrong


def misrefused(ran: Ran, words: str, new: list[Path]) -> list[str]:
    """Return what is wrong with a refusal."""
    said = [line for line in ran.err.splitlines() if line.startswith("error:")]
    checks = {
        f"exit {ran.code}": ran.code == 1,
        f"{len(said)} error lines": len(said) == 1,
        f"says nothing of {words!r}: {said[:1]}": words in "".join(said),
        "a traceback": "Traceback" not in ran.err,
        "no hint": ran.err.rstrip().splitlines()[-1:] != said,
        f"wrote {[one.name for one in new]}": not new,
        f"{ran.cpu_s:.1f} CPU seconds": ran.cpu_s <= CPU_S,
        f"{ran.mib:.0f} MiB": ran.mib <= MIB,
        "wrote to stdout": not ran.out,
    }
    return [line for line, holds in checks.items() if not holds]


def unshare() -> None:
    """Start this program again where there is no network, if the system lets it."""
    if ALONE in os.environ:
        return
    words = ["unshare", "--net", "--map-root-user"]
    try:
        may = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        may = False
    os.environ |= {ALONE: "yes" if may else "no", "OMP_NUM_THREADS": "1"}
    argv = [*(words if may else []), sys.executable, *sys.argv]
    os.execvp(argv[0], argv)


def load() -> None:
    """Import what a preview imports, so that no forked process has to."""
    for name in (
        "duckdb",
        "numpy",
        "safetensors",
        "scipy.stats",
        "sklearn.linear_model",
        "sklearn.feature_extraction.text",
        "sklearn.model_selection",
        "sem.core.console",
        "sem.preview.command",
    ):
        importlib.import_module(name)


def process(argv: list[str], folder: Path) -> Ran:
    """Return the command with `argv` in a process of its own."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            child(argv, folder, out.fileno(), err.fileno())
        _, status, used = os.wait4(pid, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    told = re.search(r"network calls: (\d+)", texts[1])
    texts[1] = re.sub(r"network calls: \d+", "", texts[1])
    return Ran(
        os.waitstatus_to_exitcode(status),
        *texts,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
        int(told[1]) if told else 0,
    )


def child(argv: list[str], folder: Path, out: int, err: int) -> NoReturn:
    """Run the command, tell how often it asked for the network, and end this process."""
    from sem.core import console
    from sem.jobs import load_jobs

    os.dup2(out, 1)
    os.dup2(err, 2)
    os.chdir(folder)
    os.environ["SEM_ROOT"] = str(folder)
    calls: list[str] = []
    sys.addaudithook(lambda event, _: calls.append(event) if event in NETWORK else None)
    # What ended neither well nor with a refusal.
    code: Any = 70
    try:
        console.run_main(lambda: load_jobs()["preview.run"].call(argv))
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(2, b"network calls: %d" % len(calls))
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
