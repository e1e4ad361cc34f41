"""R8, R9, R10, R11, R18: a host over SSH whose line is cut, whose keys change, told hostile words.

    python benchmarks/faults/remote.py [--cuts 10] [--transfers 30] [--values 2000]

A real sshd on this machine, its own keys, behind a TCP line that is reset, ended or silenced.
R8: a job of four seconds is started and followed while the line is cut once at a random moment, in
each of five ways; exit code and log must be those of the job, and the log's hash the known one.
R9: transfers are cut at a random byte and the host then stays away; what was there before must be
intact, nothing may have its final name, and the same command afterwards must finish and verify.
R10: the six cases of tests/core/test_ssh.py. R11: values through ssh's command line and through a
job's argv. R18: ten secrets for a job; `ps` is read on both ends while it runs.

Writes  benchmarks/results/remote.md
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "core")]

from proxy import Proxy  # noqa: E402
from sshd import SSHD, serving  # noqa: E402

from sem.core import console, files  # noqa: E402
from sem.core.errors import SemError  # noqa: E402
from sem.core.net.ssh import ConnectionCutError, SshHost  # noqa: E402
from sem.core.run import Run  # noqa: E402
from sem.lm.local.hardware import cpu_name  # noqa: E402
from sem.train.remote import remote_jobs  # noqa: E402
from sem.train.remote.agent import Agent, Unreachable  # noqa: E402
from sem.train.remote.far import parcel  # noqa: E402

LINES = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i of $0; sleep 0.1; done; exit $1"
KINDS = ("RST", "FIN", "black hole", "sshd restart", "client kill -9")
FOLLOW = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sem.core.net.ssh import SshHost
from sem.train.remote import remote_jobs
from sem.train.remote.agent import Agent
remote_jobs.follow_job(Agent(SshHost("far", sys.argv[2]), sys.argv[3], sys.executable), "toy", sys.argv[4],
              Path(sys.argv[5]))
"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=10, help="of each of the five kinds")
    parser.add_argument("--transfers", type=int, default=30)
    parser.add_argument("--values", type=int, default=2_000)
    args = parser.parse_args(argv)
    if SSHD is None:
        raise SemError("no sshd on this machine", "install openssh-server")
    folder = Path(tempfile.mkdtemp(prefix="sem-remote-"))
    (folder / "sshd").mkdir()
    began = time.monotonic()
    with serving(folder / "sshd") as server:
        there = Agent(
            SshHost("far", str(server.config), alive_s=1),
            str(folder / "home"),
            sys.executable,
            ask_s=10,
            patience_s=15,
        )
        rows = [
            *cuts(folder, server, there, args.cuts),
            *transfers(folder, server, there, args.transfers),
            keys(folder),
            *words(folder, there, args.values),
            secrets(folder, there),
        ]
    shutil.rmtree(folder)
    write(rows, args, time.monotonic() - began)
    if any(good != of for _, _, good, of, _ in rows):
        raise SemError("a fault was not survived", "see the table")


def cuts(folder: Path, server: object, there: Agent, count: int) -> list[tuple]:
    """R8: `count` cuts of each kind at moments that a seed chooses."""
    pick, rows = random.Random(0), []
    for kind in KINDS:
        good, hit, began = 0, 0, time.monotonic()
        for number in range(count):
            run, code = f"{kind.replace(' ', '-').lower()}-{number}", pick.randrange(1, 100)
            step = {"argv": ["bash", "-c", LINES, run, str(code)], "cwd": "."}
            remote_jobs.begin_job(there, "toy", run, {"steps": [step]}, False)
            notes, after = folder / "notes" / run, pick.uniform(0.2, 3.0)
            if kind == KINDS[-1]:
                hit += killed_client(there, run, notes, after)
                said = remote_jobs.follow_job(there, "toy", run, notes)
            else:
                said, cut = followed(server, there, (run, notes), kind, after)
                hit += cut
            whole = "".join(f"line {i} of {run}\n" for i in range(1, 41))
            log = (notes / "log.0001").read_bytes()
            good += said["code"] == code and log == whole.encode()
            good -= said["log_sha256"] != files.sha256_text(whole)
        seconds = (time.monotonic() - began) / count
        detail = f"{hit} cuts hit an open line; {seconds:.1f} s each, of which the job is 4"
        rows.append(("R8", f"{kind}: exit code and log recovered", good, count, detail))
        console.print_note(str(rows[-1]))
    return rows


def followed(
    server: object, there: Agent, job: tuple[str, Path], kind: str, after: float
) -> tuple[dict, int]:
    """Return how the job ended, over a line that is cut `after` so many seconds.

    Whether one was open.
    """
    hits: list[int] = []
    with Proxy(server.port) as line:
        server.reach(line.at)
        timer = threading.Timer(after, lambda: hits.append(broken(server, line, kind)))
        timer.start()
        said = remote_jobs.follow_job(there, "toy", *job)
        timer.join()
        server.reach(server.port)
    return said, int(hits[0] > 0)


def broken(server: object, line: Proxy, kind: str) -> int:
    if kind == "sshd restart":
        sessions = server.sessions()
        server.stop()
        for pid in sessions:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        server.start()
        return len(sessions)
    names = {"RST": "rst", "FIN": "fin", "black hole": "hole"}
    # Between two questions no line is open.
    for _ in range(200):
        if cut := line.cut(names[kind]):
            return cut
        time.sleep(0.005)
    return 0


def killed_client(there: Agent, run: str, notes: Path, after: float) -> int:
    argv = [sys.executable, "-P", "-c", FOLLOW, str(ROOT), there.far.config]
    argv += [there.folder, run, str(notes)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True) as client:
        time.sleep(after + 0.5)
        was_there = client.poll() is None
        client.kill()
    return int(was_there)


def transfers(folder: Path, server: object, there: Agent, count: int) -> list[tuple]:
    """R9: `count` transfers, every other one a pull, each cut at a random byte."""
    pick = random.Random(1)
    intact = verified = resumed = 0
    stays_away = Agent(there.far, there.folder, there.python, ask_s=5, patience_s=0)
    for number in range(count):
        here, is_push = folder / f"t{number}", number % 2 == 0
        for name, size in (("adapter/large.bin", 2_500_000), ("adapter/b.bin", 400_000)):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(pick.randbytes(size))
        files.write_file(here / "run.json", "{}")
        seal(here)
        wanted = contents(here)
        work, final = pushing(there, here) if is_push else pulling(folder, there, here)
        old, total = contents(final), sum(len(data) for data in wanted.values())
        with Proxy(server.port) as line:
            server.reach(line.at)
            line.limit(pick.randrange(5_000, total), towards=is_push)
            threading.Thread(target=gone, args=(line, server), daemon=True).start()
            outcome = ""
            try:
                work(stays_away)
            except (Unreachable, ConnectionCutError) as error:
                outcome = type(error).__name__
            server.reach(server.port)
        resumed += any(p.stat().st_size for p in folder.rglob(f"*t{number}*/**/.parts/*"))
        intact += bool(outcome) and contents(final) == old
        work(there)
        verified += contents(final) == wanted
    detail = f"{count // 2} pulls, {count - count // 2} pushes of 2.9 MB, cut at a random byte"
    more = f"{resumed} had a part of a file that the next call continued"
    return [
        ("R9", "transfers cut: what was there before is intact", intact, count, detail),
        ("R9", "the same command then finished and every hash was right", verified, count, more),
    ]


def gone(line: Proxy, server: object) -> None:
    """After the first cut the host cannot be reached any more."""
    while not line.cuts:
        time.sleep(0.001)
    server.reach(1)


def seal(run: Path) -> None:
    """The manifest that a finished run has."""
    adapter = {path.name: files.sha256_file(path) for path in (run / "adapter").iterdir()}
    facts = {"adapter": adapter, "run_json_sha256": files.sha256_file(run / "run.json")}
    files.write_file(run / "manifest.json", files.jsonio.pretty_json(facts))


def pushing(there: Agent, here: Path) -> tuple[Callable[[Agent], object], Path]:
    """Return what sends the folder `here`, and where it ends."""
    listed = parcel.list_entries(here, parcel.paths_below(here))
    request = {"kind": "weights", "name": here.name, "listed": listed}
    final = Path(there.folder) / "models" / "base" / here.name
    return (lambda agent: agent.push(request, here, f"push {here.name}")), final


def pulling(folder: Path, there: Agent, here: Path) -> tuple[Callable[[Agent], object], Path]:
    """Return what fetches the run that stands `here` over one of the same id, and where that
    is.
    """
    far = Path(there.folder) / "runs" / "toy" / here.name / "models" / "toy" / "adapters"
    shutil.copytree(here, far / here.name)
    final = folder / "fetched" / here.name
    for name in ("adapter/large.bin", "adapter/b.bin", "manifest.json"):
        files.write_file(final / name, "old")
    files.write_file(final / "run.json", "{}")
    run = Run(here.name, final)
    return (lambda agent: remote_jobs.pull_finished_run(agent, "toy", run)), final


def contents(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        return {}
    return {
        name: (folder / name).read_bytes() for name in parcel.paths_below(folder, ".parts", "host")
    }


def keys(folder: Path) -> tuple:
    """R10: unknown and changed keys, direct, behind a jump host, hashed."""
    from tests.core.test_ssh import REFUSED, entry, reaching

    good = 0
    for name in ("far", "jump"):
        (folder / name).mkdir()
    with serving(folder / "far") as far, serving(folder / "jump") as jump:
        for number, (target, hop, through, hashed) in enumerate(REFUSED.values()):
            at = folder / f"key{number}"
            at.mkdir()
            known = "".join(entry(s, k) for s, k in ((far, target), (jump, hop)) if k)
            failing = far if hop else jump
            before = failing.attempts()
            try:
                reaching(at, (far, jump), known, through, hashed).ask("touch canary")
            except SemError as error:
                good += failing.fingerprint() in error.message and failing.attempts() == before
    detail = "fingerprint told, 0 attempts to authenticate in the server's log"
    return ("R10", "unknown or changed host keys refused", good, len(REFUSED), detail)


def words(folder: Path, there: Agent, count: int) -> list[tuple]:
    """R11: `count` hostile values on ssh's command line, and in the argv of a job."""
    from tests.test_fabfile import hostile

    values, arrived = hostile(count), 0
    shown = "import os, sys; print('\\n'.join(os.fsencode(a).hex() for a in sys.argv[1:]))"
    script = 'p=$1; c=$2; shift 2; exec "$p" -I -c "$c" "$@"'
    for at in range(0, count, 50):
        batch = values[at : at + 50]
        said = there.far.ask(script, sys.executable, shown, *batch).decode().split("\n")
        wanted = [value.encode("utf-8", "surrogateescape").hex() for value in batch]
        arrived += sum(a == b for a, b in zip(said, wanted, strict=False))
    argv = [sys.executable, "-I", "-c", shown, *values]
    remote_jobs.begin_job(there, "toy", "words", {"steps": [{"argv": argv, "cwd": "."}]}, False)
    remote_jobs.follow_job(there, "toy", "words", folder / "notes" / "words")
    said = (folder / "notes" / "words" / "log.0001").read_text().split("\n")
    wanted = [value.encode("utf-8", "surrogateescape").hex() for value in values]
    through = sum(a == b for a, b in zip(said, wanted, strict=False))
    fired = [*folder.rglob("CANARY"), *Path.cwd().glob("CANARY")]
    detail = f"{len(fired)} canary files"
    return [
        ("R11", "hostile values on ssh's line, byte for byte", arrived, count, detail),
        ("R11", "hostile values in a job's argv, byte for byte", through, count, detail),
    ]


def secrets(folder: Path, there: Agent) -> tuple:
    """R18: ten secrets of a job; where else than in its environment they are found."""
    told = {f"SECRET_{n}": f"canary-{random.Random(n).randrange(1 << 60):x}" for n in range(10)}
    check = " && ".join(f'test -n "${name}"' for name in told)
    step = {"argv": ["bash", "-c", f"sleep 3; {check}"], "cwd": ".", "secret": True}
    seen, stop = [], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            seen.append(subprocess.check_output(["ps", "-eo", "args"], text=True))

    thread = threading.Thread(target=watch)
    thread.start()
    remote_jobs.begin_job(there, "toy", "secrets", {"steps": [step]}, False, told)
    code = remote_jobs.follow_job(there, "toy", "secrets", folder / "notes" / "secrets")["code"]
    stop.set()
    thread.join()
    texts = [p.read_bytes() for p in folder.rglob("*") if p.is_file()]
    found = [v for v in told.values() if any(v in s for s in seen)]
    found += [v for v in told.values() if any(v.encode() in text for text in texts)]
    assert code == 0, "the job did not get its secrets"
    detail = f"{len(seen)} looks at ps, {len(texts)} files of both ends; the job had all ten"
    return ("R18", "secrets found nowhere (ps, files, logs)", 10 - len(set(found)), 10, detail)


def write(rows: list[tuple], args: argparse.Namespace, seconds: float) -> None:
    columns = ("row", "what", "good", "of", "how")
    console.print_table("a host over SSH", columns, rows)
    lines = [
        "# A host over SSH whose line is cut (R8, R9, R10, R11, R18)",
        f"Command: `python benchmarks/faults/remote.py --cuts {args.cuts} --transfers "
        f"{args.transfers} --values {args.values}`, {os.cpu_count()} CPUs ({cpu_name()}), "
        f"{sys.platform}, a real sshd on 127.0.0.1, {seconds:.0f} s. What the rows mean stands at "
        "the top of that file.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows),
    ]
    console.print_output_path(
        files.write_file(ROOT / "benchmarks/results/remote.md", "\n".join(lines) + "\n")
    )


if __name__ == "__main__":
    console.run_main(main)
