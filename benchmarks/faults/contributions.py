"""R13 and R19: bad contributions through `hokusai-preview`, each in a process of its own.

    python benchmarks/faults/contributions.py [--only NAME]

A refused one is handled when it says one line that names the file and the fault and one hint,
exits with 1, writes nothing although files are named, and takes no more than 2 CPU seconds beyond
start-up and 512 MB. One that can be read must give a result. Every process counts its attempts to
use the network (an audit hook), and runs in a network namespace without any device where the
system lets it.

Writes  benchmarks/results/faults_contributions.md
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks"), str(HERE)]

from contribution_cases import CASES, GOOD, MODELS, READ, Case, csv  # noqa: E402

CPU_S, MIB = 2.0, 512
OUTPUTS = ("out.json", "zk.json", "new.safetensors")
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto",
           "socket.gethostbyname", "urllib.Request")  # fmt: skip
CHILD = """
import os, sys
sys.argv[0] = 'hokusai-preview'
calls = []
def heard(event, args):
    if event in NETWORK: calls.append(event)
sys.addaudithook(heard)
from sem.core import console
from sem.preview.command import main
try:
    console.run(lambda: main(sys.argv[1:]))
finally:
    os.write(2, b"network calls: %d" % len(calls))
"""


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
    from clean import machine

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    only = parser.parse_args().only
    alone = unshared()
    with tempfile.TemporaryDirectory() as folder:
        idle = process([], Path(folder), alone).cpu_s
    rows, faults, calls, slowest, largest = [], [], 0, 0.0, 0.0
    families = {"refused": CASES, "read": READ, "offered as a model": MODELS}
    for family, cases in families.items():
        cases = [case for case in cases if only in case[0]]
        good = 0
        for case in cases:
            ran, wrong = tried(case, family, alone, idle)
            calls += ran.network
            if family != "read":
                slowest, largest = max(slowest, ran.cpu_s - idle), max(largest, ran.mib)
            good += not wrong
            faults += [f"{case[0]}: {line}" for line in wrong]
            last = ran.err.strip().splitlines()
            print(f"{case[0]:26} {ran.code} {ran.cpu_s:5.1f} s {ran.mib:5.0f} MiB "
                  f"{(last[-2] if len(last) > 1 else '')[:110]}", flush=True)  # fmt: skip
        rows.append(f"| R13 | {family} | {good}/{len(cases)} |")
    where = "in a network namespace without devices" if alone else "no namespace: not allowed here"
    count = sum(len([c for c in cases if only in c[0]]) for cases in families.values())
    rows += [
        f"| R13 | most CPU seconds of a refusal beyond start-up ({idle:.1f} s) | {slowest:.1f} |",
        f"| R13 | most memory of a refusal, MiB | {largest:.0f} |",
        f"| R19 | network calls by {count} processes, {where} | {calls} |",
    ]
    report = [
        "# Bad contributions (R13, R19)", "",
        f"`python benchmarks/faults/contributions.py`. {machine()}.", "",
        "| row | what | found |", "|---|---|---|", *rows, "",
        *([f"- {line}" for line in faults] or ["No case was handled otherwise."]),
    ]  # fmt: skip
    print("\n".join(report))
    if not only:
        from sem.core import files

        files.write(ROOT / "benchmarks/results/faults_contributions.md", "\n".join(report) + "\n")


def tried(case: Case, family: str, alone: list[str], idle: float) -> tuple[Ran, list[str]]:
    """CASE through the command, and what is wrong with how it was handled."""
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        argv, path = prepared(case, family, folder)
        before = sorted(folder.rglob("*"))
        ran = process(argv, folder, alone)
        new = sorted(set(folder.rglob("*")) - set(before))
        wrong = [f"{ran.network} network calls"] if ran.network else []
        if family == "read":
            return ran, wrong + misread(ran, folder)
        return ran, wrong + misrefused(ran, case[1], path, new, idle)


def prepared(case: Case, family: str, folder: Path) -> tuple[list[str], Path]:
    """The arguments that offer CASE, and its path below FOLDER."""
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
        argv = ["--data-path", str(folder / "good.csv"), "--sem", "it", "--baseline-model",
                str(path), "--test-mode", "--output-format", "json"]  # fmt: skip
    flags = zip(("--output-file", "--zk", "--save-model"), OUTPUTS, strict=True)
    return [*argv, *(word for flag, out in flags for word in (flag, str(folder / out)))], path


def misread(ran: Ran, folder: Path) -> list[str]:
    """What is wrong with a case that can be read."""
    if ran.code:
        return [f"exit {ran.code}: {ran.err[-200:]}"]
    told = json.loads(ran.out)
    wrong = [f"{name} is not written" for name in OUTPUTS if not (folder / name).exists()]
    if told["disclaimer"][:34] != "PREVIEW - NON-BINDING ESTIMATE: co":
        wrong.append("no disclaimer")
    return wrong


def misrefused(ran: Ran, words: str, path: Path, new: list[Path], idle: float) -> list[str]:
    """What is wrong with a refusal."""
    said = [line for line in ran.err.splitlines() if line.startswith("error:")]
    checks = {
        f"exit {ran.code}": ran.code == 1,
        f"{len(said)} error lines": len(said) == 1,
        f"says nothing of {words!r}: {said[:1]}": words in "".join(said),
        "a traceback": "Traceback" not in ran.err,
        "no hint": ran.err.rstrip().splitlines()[-1:] != said,
        f"wrote {[one.name for one in new]}": not new,
        f"{ran.cpu_s - idle:.1f} s beyond start-up": ran.cpu_s - idle <= CPU_S,
        f"{ran.mib:.0f} MiB": ran.mib <= MIB,
        "wrote to stdout": not ran.out,
    }
    return [line for line, holds in checks.items() if not holds]


def unshared() -> list[str]:
    """The words that put a process where there is no network; none where that is not allowed."""
    words = ["unshare", "--net", "--map-root-user"]
    try:
        done = subprocess.run([*words, "true"], capture_output=True, check=False)
    except OSError:
        return []
    return words if done.returncode == 0 else []


def process(argv: list[str], folder: Path, alone: list[str]) -> Ran:
    """The command with ARGV; without any, only its imports."""
    code = CHILD.replace("NETWORK", repr(NETWORK))
    if not argv:
        code = "import sem.preview.command, sem.core.console"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "SEM_ROOT": str(folder),
           "OMP_NUM_THREADS": "1"}  # fmt: skip
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [*alone, sys.executable, "-P", "-c", code, *argv], stdout=out, stderr=err, env=env,
            cwd=folder)  # fmt: skip
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    told = re.search(r"network calls: (\d+)", texts[1])
    texts[1] = re.sub(r"network calls: \d+", "", texts[1])
    return Ran(child.returncode, *texts, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024,
               int(told[1]) if told else 0)  # fmt: skip


if __name__ == "__main__":
    main()
