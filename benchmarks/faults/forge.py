"""R16, R17, R18: a forge run against a teacher over real HTTP with scripted faults and kill -9.

    python benchmarks/faults/forge.py
    python benchmarks/faults/forge.py --kills 20 --kills-a-run 4 --only kills

Nothing is mocked: documents are read, calls go through litellm and the ledger, rows are stored,
cleaned and cut as in a user's run.

Writes  benchmarks/results/faults_forge.md
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sem.core import console, files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.forge.run import forge_job, forge_run
from sem.lm.api import client as client_module
from sem.lm.api.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]
import handbook  # noqa: E402
import teachers  # noqa: E402
from chatserver import ChatServer  # noqa: E402

from benchmarks.speed.clean import machine  # noqa: E402

AT = datetime(2026, 11, 21, tzinfo=UTC)
KEYS = [f"sk-canary-{number:02}-0123456789abcdef" for number in range(10)]
OUT = (
    "forge/pairs.jsonl",
    "forge/dropped.jsonl",
    "forge/skipped.jsonl",
    "forge/forge.json",
    "train.jsonl",
    "test.jsonl",
    "clean.jsonl",
)
UNANSWERED = {"429", "500", "503", "hang", "reset", "half", "html"}
Row = tuple[str, str, str, str]


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kills-a-run", type=int, default=4, help="then it is let end")
    parser.add_argument("--documents", type=int, default=24, help="of six chunks each")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args(argv)
    client_module.FIRST_BACKOFF_S = 0.02
    path = ROOT / "benchmarks" / "results" / "faults_forge.md"
    words = " ".join(argv or sys.argv[1:])
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            rows = PARTS[name](args, Path(folder))
        console.print_table(name, COLUMNS, rows)
        write(path, name, f"python benchmarks/faults/forge.py {words}".strip(), rows)
    console.print_output_path(path)


def write(path: Path, part: str, command: str, rows: list[Row]) -> None:
    """Put the section of `part` into the results, the others as they are."""
    text = path.read_text("utf-8") if path.exists() else ""
    sections = {one.partition("\n")[0]: f"## {one}" for one in text.split("## ")[1:]}
    lines = [f"## {part}", "", f"`{command}`; {machine()}.", ""]
    lines += ["| " + " | ".join(row) + " |" for row in (COLUMNS, ("---",) * 4, *rows)]
    sections[part] = "\n".join(lines)
    title = "# The forge's teacher under faults (R16, R17, R18)\n\n"
    ordered = (sections[name].rstrip() for name in PARTS if name in sections)
    files.write_file(path, title + "\n\n".join(ordered) + "\n")


COLUMNS = ("row", "what", "measured", "target")


def project(root: Path, url: str, args: argparse.Namespace, **changes: Any) -> Project:
    os.environ["SEM_ROOT"] = str(root)
    handbook.make(root, url, documents=args.documents, sections=6, **changes)
    return Project.load("handbook")


def stored(of: Project) -> forge_job.ForgeResult:
    return forge_run.run_forge(forge_run.prepare_forge(of, forge_job.ForgeOptions(), AT))


def faults(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Return every fault on some chunks of one run; then an honest teacher.

    Then nothing to ask.
    """
    os.environ["STUB_KEY"] = KEYS[0]
    usual, client_module.Breaker.is_open = (
        client_module.Breaker.is_open,
        lambda self, lane: False,
    )
    with ChatServer(teachers.faulty(KEYS[0])) as server:
        server.hang_s = 12.0
        made = project(folder, server.url, args, timeout_s=10.0, workers=8)
        stored(made)
        asked = {str(b["messages"]): b for b in server.seen}
        found, first = reasons(made), len(server.seen)
        right = sum(_fits(body, found) for body in asked.values())
        kinds = Counter(teachers.kind_of(body) or "none" for body in asked.values())
        several = sum(count > 2 for count in Counter(map(_text, server.seen)).values())
        server.script = teachers.honest
        stored(made)
        again = {_text(body) for body in server.seen[first:]}
        due = {_text(b) for b in asked.values() if teachers.kind_of(b) in UNANSWERED}
        second = len(server.seen)
        stored(made)
        third = len(server.seen) - second
    client_module.Breaker.is_open = usual
    chunks = args.documents * 6
    return [
        (
            "R16",
            f"chunks found under the reason of their fault ({len(kinds) - 1} kinds, "
            f"{chunks - kinds['none']} faulty chunks of {chunks})",
            f"{right}/{chunks}",
            "all",
        ),
        ("R16", "chunks lost or found twice", str(chunks - len(found)), "0"),
        ("R16", "calls of more than 2 requests where 2 tries are allowed", str(several), "0"),
        (
            "R16",
            "asked again by a second run: not answered before",
            f"{len(again & due)} of {len(due)}",
            "all",
        ),
        ("R17", "asked again by a second run: answered before", str(len(again - due)), "0"),
        ("R17", "asked by a third run", str(third), "0"),
    ]


def _text(body: dict[str, Any]) -> str:
    return str(body["messages"])


def _fits(body: dict[str, Any], found: dict[str, set[str]]) -> bool:
    """Return whether the chunk that `body` asks about stands under just the reason of its
    fault.
    """
    kind = teachers.kind_of(body)
    title = teachers.passage(body).split("About the ")[1].split()[0]
    return found.get(title) == set(teachers.KINDS[kind] if kind else ("kept",))


def reasons(of: Project) -> dict[str, set[str]]:
    """Return the invented word that heads each chunk -> the reasons the chunk is found under."""
    raw = of.root / "data" / "handbook" / "raw"
    texts = {path.name: path.read_text("utf-8") for path in raw.glob("*.md")}
    found: dict[str, set[str]] = {}

    def add(source: str, span: list[int], reason: str) -> None:
        text = texts[source][span[0] : span[1]]
        found.setdefault(text.split("About the ")[1].split()[0], set()).add(reason)

    for name in ("pairs", "dropped"):
        for row in files.read_rows(of.processed / "forge" / f"{name}.jsonl"):
            told = row["provenance"]
            add(row["source"], told["span"], told["reason"] or "kept")
    for row in files.read_rows(of.processed / "forge" / "skipped.jsonl"):
        source, chunk = row["where"].split(" ")
        add(source, [int(n) for n in chunk.split(":")[1].split("-")], row["reason"])
    return found


def caps(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Return a cap in requests and one in dollars, 8 workers, and a restart of each."""
    os.environ["STUB_KEY"] = KEYS[0]
    rows: list[Row] = []
    with ChatServer(teachers.honest) as server:
        made = project(folder, server.url, args, workers=8, max_requests=50)
        for what in ("sent of a cap of 50 requests, 8 workers", "the same after a restart"):
            stopped = _stops(made)
            rows.append(("R16", f"{what}; stopped {stopped}", str(len(server.seen)), "<= 50"))
        # 16 cents are reserved for a call, 10 settle it.
        dear = {"price": "{input_per_million: 0, output_per_million: 10000}", "max_tokens": 16}
        made = project(folder / "usd", server.url, args, workers=8, max_usd=3, **dear)
        before = len(server.seen)
        _stops(made)
        client = forge_run.prepare_forge(made, forge_job.ForgeOptions(), AT).teacher().client
        spent = client.ledger.spent(client.account)
        told = f"${spent.usd:.2f} in {len(server.seen) - before} requests"
        rows.append(("R16", "spent of a cap of $3, 8 workers", told, "<= $3"))
    return rows


def _stops(of: Project) -> str:
    os.environ["SEM_ROOT"] = str(of.root)
    try:
        stored(Project.load("handbook"))
    except SemError as error:
        return error.message.split(":")[1].strip()
    return "never"


def kills(args: argparse.Namespace, folder: Path) -> list[Row]:
    """kill -9 at random moments of whole runs (ask, store, clean, cut), each run again."""
    os.environ["STUB_KEY"] = KEYS[0]
    dice, done, rounds, workers = random.Random(7), 0, 0, 4
    same = whole = repeated = answered = 0
    with served() as (url, log):
        took, reference = undisturbed(folder / "reference", url, args)
        while done < args.kills:
            made = project(folder / str(rounds), url, args, workers=workers)
            keys, status, hits = request_keys(made), None, 0
            log.write_text("")
            while status is None:
                known, before = kept(made, keys), len(log.read_text().splitlines())
                is_spared = done == args.kills or hits == args.kills_a_run
                limit = 3_600.0 if is_spared else 0.2 + dice.random() * took
                status = finished(fork(lambda root=made.root: whole_run(root)), limit)
                done, hits = done + (status is None), hits + (status is None)
                lines = log.read_text().splitlines()
                answered += sum(line in known for line in lines[before:])
            rounds += 1
            asked = Counter(lines)
            repeated += sum(asked.values()) - len(asked)
            whole += status == 0 and len(asked) == args.documents * 6
            same += output(made) == reference
    return [
        (
            "R17",
            f"runs complete after kills ({done} kills, at most {args.kills_a_run} a run, "
            f"{workers} in flight)",
            f"{whole}/{rounds}",
            "all",
        ),
        ("R17", "runs that wrote the same bytes as an undisturbed one", f"{same}/{rounds}", "all"),
        (
            "R17",
            f"calls repeated, of {rounds * args.documents * 6}",
            str(repeated),
            f"<= {done * workers}",
        ),
        ("R17", "calls repeated whose reply was kept at the kill", str(answered), "0"),
    ]


def undisturbed(root: Path, url: str, args: argparse.Namespace) -> tuple[float, dict[str, bytes]]:
    """Return how long a run takes in a child, and what it writes."""
    made = project(root, url, args, workers=4)
    forge_run.prepare_forge(made, forge_job.ForgeOptions(), AT).teacher().client.ledger  # noqa: B018 - loads litellm
    began = time.monotonic()
    if finished(fork(lambda: whole_run(root)), 3_600.0) != 0:
        raise SemError("an undisturbed run failed", "see its message above")
    return time.monotonic() - began, output(made)


def whole_run(root: Path) -> None:
    os.environ["SEM_ROOT"] = str(root)
    prepared = forge_run.prepare_forge(Project.load("handbook"), forge_job.ForgeOptions(), AT)
    forge_run.finish_forge(
        prepared, forge_run.run_forge(prepared), clean.CleaningOptions(today="2026-11-21")
    )


def output(of: Project) -> dict[str, bytes]:
    found = {name: (of.processed / name).read_bytes() for name in OUT}
    for name in ("forge_report.md", "forge_report.html"):
        found[name] = (of.reports / name).read_bytes()
    return found


def request_keys(of: Project) -> dict[str, str]:
    """Hash of the messages of every planned request -> its key in the ledger."""
    found: dict[str, str] = {}

    def watch(asked: Any, request: Any, _: bool) -> bool:
        messages = [{"role": role, "content": text} for role, text in request.messages]
        identity = asked.client.settings.models[0].identity
        found[files.sha256_json(messages)] = request.key(identity)
        return True

    prepared = forge_run.prepare_forge(of, forge_job.ForgeOptions(), AT)
    prepared.job.pass_over(prepared.teacher(watch, dry=True))
    return found


def kept(of: Project, keys: dict[str, str]) -> set[str]:
    """Hashes of the messages whose reply is in the ledger now."""
    ledger = Ledger(of.root / "data" / ".lm")
    return {messages for messages, key in keys.items() if ledger.reply(key) is not None}


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        # No HTTP connection crosses a fork.
        client_module._door.cache_clear()
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def finished(child: int, within_s: float) -> int | None:
    """Return the exit status of `child`.

    None when it was killed `within_s` seconds after its start.
    """
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class served:
    """An honest teacher in a process of its own, logging a hash of the messages it was asked."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> tuple[str, Path]:
        log, address = (Path(self._folder.name) / name for name in ("log", "address"))
        log.touch()
        words = [sys.executable, "-P", __file__, "--serve", str(log), str(address)]
        self._process = subprocess.Popen(words)
        while not address.exists() or not address.read_text():
            time.sleep(0.05)
        return address.read_text(), log

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def serve(log: str, address: str) -> None:
    """Answer honestly for ever; a line of `log` is written before each reply."""

    def script(body: dict[str, Any], number: int) -> str:
        with open(log, "a") as file:
            file.write(files.sha256_json(body["messages"]) + "\n")
        time.sleep(0.02)
        return teachers.honest(body, number)

    with ChatServer(script) as server:
        Path(address).write_text(server.url)
        while True:
            time.sleep(60)


def secrets(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Ten keys, each met by every fault: 4xx and 5xx bodies that echo it, replies that do."""
    found = 0
    with ChatServer(teachers.honest) as server:
        server.hang_s = 1.5
        for number, key in enumerate(KEYS):
            os.environ["STUB_KEY"] = key
            server.script = teachers.faulty(key, ("huge", "hang"))
            small = argparse.Namespace(documents=4)
            made = project(folder / str(number), server.url, small, timeout_s=10.0)
            try:
                stored(made)
            except SemError as error:
                found += key in str(error)
        for path in folder.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            found += sum(key.encode() in data for key in KEYS)
    return [("R18", "keys in files and messages of 10 runs with 10 keys", str(found), "0")]


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "faults": faults,
    "caps": caps,
    "kills": kills,
    "secrets": secrets,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:4])
    console.run_main(main)
