"""R15, R16, R17: a judge over real HTTP with scripted faults, bad judges, kill -9, caps and pace.

    python benchmarks/faults/judge.py
    python benchmarks/faults/judge.py --kills 50 --pace-s 180 --only kills pace

Every part runs against an OpenAI-compatible server on this machine. Nothing is mocked: calls go
through litellm and the ledger as a job's do.

Writes  benchmarks/results/faults_judge.md
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

from sem.core import console, files, settings
from sem.core.errors import SemError
from sem.eval.answers.answers import AnswerFile
from sem.eval.judge import judge_config, judge_prompts, judge_questions, verdicts
from sem.eval.judge.judge import Judge, JudgeItem
from sem.eval.scoring.scoring import Score, SlotScore
from sem.lm.api import client as client_module
from sem.lm.api.calls import FAULTS, ChatRequest
from sem.lm.api.client import Client

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import judges  # noqa: E402
from chatserver import ChatServer  # noqa: E402

AT = datetime(2026, 11, 21, tzinfo=UTC)
KEYS = [f"sk-canary-{number:02}-0123456789abcdef" for number in range(10)]
SCHEMA = {
    "type": "object",
    "required": ["pass"],
    "properties": {"pass": {"type": "boolean"}, "nonce": {}, "score": {"type": "number"}},
}
GOOD = '{"pass": true, "nonce": "n"}'
REPLIES = {
    "invalid JSON": '{"pass": tr',
    "wrong schema": '{"pass": "false", "nonce": "n"}',
    "NaN": '{"pass": true, "nonce": "n", "score": NaN}',
    "wrong nonce": '{"pass": true, "nonce": "m"}',
}
# The sixteen of RELIABILITY; the server's own name where it differs.
SIXTEEN = (
    "401",
    "403",
    "429",
    "500",
    "503",
    "hang",
    "reset",
    "half",
    "html",
    "empty",
    "length",
    "huge",
    *REPLIES,
)
Row = tuple[str, str, str, str]


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pace-s", type=float, default=175.0, help="seconds of 600 a minute")
    parser.add_argument("--alarms", type=int, default=100, help="batches of the honest judge")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args(argv)
    client_module.FIRST_BACKOFF_S = 0.02
    rows: list[Row] = []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            rows += PARTS[name](args, Path(folder))
    columns = ("row", "what", "measured", "target")
    console.print_table("judge faults", columns, rows)
    lines = ["# The judge under faults (R15, R16, R17)"]
    lines += [f"Command: `python benchmarks/faults/judge.py {' '.join(argv or sys.argv[1:])}`", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    path = ROOT / "benchmarks" / "results" / "faults_judge.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def client(url: str, folder: Path, **changes: Any) -> Client:
    model = {"model": "openai/stub", "api_base": url, "key_env": "STUB_KEY"}
    model |= {"price": changes.pop("price", {"input_per_million": 1, "output_per_million": 1})}
    model |= changes.pop("limits", {})
    values = {"models": [model], "timeout_s": 5.0, **changes}
    return Client(
        settings.build_settings(judge_config.Calls, values, "calls"), folder / "lm", "bench", AT
    )


def ask(text: str) -> ChatRequest:
    return ChatRequest((("user", text),), SCHEMA, {"nonce": "n"}, max_tokens=36)


def faults(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Sixteen provider faults: typed, at most four requests, nothing cached, no key anywhere."""
    typed = cached = leaks = 0
    most = 0
    with ChatServer(lambda body, number: GOOD) as server:
        server.hang_s = 1.2
        for number, name in enumerate(SIXTEEN):
            for key in KEYS[number % 10], KEYS[(number + 3) % 10]:
                os.environ["STUB_KEY"] = key
                said = REPLIES.get(name, name)
                server.script = lambda body, number, said=said: said
                before = len(server.seen)
                made = client(server.url, folder, timeout_s=0.6 if name == "hang" else 5.0)
                outcome = made.ask(ask(name + key))
                typed += outcome.fault in FAULTS
                most = max(most, len(server.seen) - before)
                server.script = lambda body, number: GOOD
                cached += made.ask(ask(name + key)).cached
                leaks += key in repr(outcome)
        written = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
        leaks += sum(key.encode() in written for key in KEYS)
    count = 2 * len(SIXTEEN)
    return [
        ("R16", "provider faults with a typed outcome", f"{typed}/{count}", "16/16 kinds"),
        ("R16", "requests of one call, at most", str(most), "<= 4"),
        ("R16", "faults cached", str(cached), "0"),
        ("R18", "keys in outcomes and in the ledger's files, 10 keys", str(leaks), "0"),
    ]


def caps(args: argparse.Namespace, folder: Path) -> list[Row]:
    """1,000 calls with a cap of 100: 8 workers, 8 processes, a restart, a cap in dollars."""
    os.environ["STUB_KEY"] = KEYS[0]
    with ChatServer(lambda body, number: GOOD) as server:
        made = client(server.url, folder, max_requests=100, workers=8)
        list(made.ask_all(ask(str(number)) for number in range(1000)))
        sent = len(server.seen)
        again = client(server.url, folder, max_requests=100)
        again.ask(ask("after a restart"))
        extra = len(server.seen) - sent
        # A request reserves one dollar and settles at 10/36 of it.
        dear = {"input_per_million": 0, "output_per_million": 1_000_000 / 36}
        rich = client(server.url, folder / "usd", price=dear, max_usd=100, workers=8)
        list(rich.ask_all(ask(f"usd {number}") for number in range(1000)))
        spent = rich.ledger.spent(rich.account)
        forked = split(lambda n: spend(server.url, folder / "forked", n), 8)
        many = client(server.url, folder / "forked", max_requests=100)
        total = many.ledger.spent(many.account).requests
    return [
        ("R16", "requests sent of 1,000 calls, cap 100, 8 workers", str(sent), "<= 100"),
        ("R16", "the same by 8 processes", f"{total} ({forked} ended well)", "<= 100"),
        ("R16", "sent after a restart", str(extra), "0"),
        (
            "R16",
            "spent of a cap of $100, 8 workers",
            f"${spent.usd:.2f} in {spent.requests} requests",
            "<= $100",
        ),
    ]


def spend(url: str, folder: Path, number: int) -> None:
    made = client(url, folder, max_requests=100, workers=1)
    for one in range(125):
        made.ask(ask(f"{number} {one}"))


def split(work: Callable[[int], None], count: int) -> int:
    """Return `work` in `count` forked processes at once; how many ended well."""
    # Imported once, before the fork.
    client_module._door()
    children = [fork(lambda number=number: work(number)) for number in range(count)]
    return sum(os.waitpid(child, 0)[1] == 0 for child in children)


def warm(url: str, folder: Path) -> None:
    """One call: litellm loads modules for seconds at its first, and children inherit them."""
    client(url, folder / "warm").ask(ask("warm"))


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        # No HTTP connection crosses a fork.
        client_module._door.cache_clear()
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def pace(args: argparse.Namespace, folder: Path) -> list[Row]:
    """600 requests a minute by 8 processes: the most in any 60 s, and how much of it is used."""
    os.environ["STUB_KEY"] = KEYS[0]
    with served("good") as (url, log):
        warm(url, folder / "warm")
        log.write_text("")
        end = time.time() + args.pace_s
        began = time.time()
        done = split(lambda number: hurry(url, folder, number, end), 8)
        at = sorted(float(line.split()[0]) for line in log.read_text().splitlines())
    most, left = 0, 0
    for right, moment in enumerate(at):
        while at[left] <= moment - 60.0:
            left += 1
        most = max(most, right - left + 1)
    # Of every minute begun.
    allowed = 600 * -(-args.pace_s // 60)
    share = sum(moment <= began + args.pace_s for moment in at) / allowed
    return [
        (
            "R16",
            f"requests in any 60 s of {args.pace_s:.0f} s, 8 processes, 600 a minute, "
            f"{len(at):,} windows",
            f"{most} ({done} processes ended well)",
            "<= 600",
        ),
        (
            "R16",
            f"of {allowed:.0f} allowed requests sent in {args.pace_s:.0f} s",
            f"{share:.1%}",
            ">= 95 %",
        ),
    ]


def hurry(url: str, folder: Path, number: int, end: float) -> None:
    made = client(url, folder, limits={"requests_per_minute": 600}, workers=1, timeout_s=30)
    one = 0
    while time.time() < end:
        made.ask(ask(f"{number} {one}"))
        one += 1


class served:
    """A server process of its own, logging a line (time, hash of the prompt) for each request."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> tuple[str, Path]:
        log, address = (Path(self._folder.name) / name for name in ("log", "address"))
        log.touch()
        words = [sys.executable, str(Path(__file__).parent / "judge_server.py"), self._kind]
        self._process = subprocess.Popen([*words, str(log), str(address)])
        while not address.exists() or not address.read_text():
            time.sleep(0.05)
        return address.read_text(), log

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def bad(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Bad judges caught by canaries in every mode; false alarms of an honest one."""
    os.environ["STUB_KEY"] = KEYS[0]
    caught = kept = tried = alarms = 0
    with ChatServer(judges.honest) as server:
        for mode in judge_prompts.MODES:
            for kind, script in judges.BAD.items():
                if mode != "slots" and kind == "quotes booleans":
                    continue
                server.script = script
                book = AnswerFile(folder / mode / f"verdicts.{kind}.jsonl", {})
                tried += 1
                try:
                    list(
                        judge_questions.judge_cases(
                            court(server.url, folder / mode / kind, mode), cases(2), book
                        )
                    )
                except SemError as error:
                    caught += "canaries" in error.message
                kept += len(verdicts.load_verdicts(book.path))
        server.script = judges.honest
        made = court(server.url, folder / "honest", "slots")
        for number in range(args.alarms):
            question = judge_prompts.JudgeQuestion("e", "text", f"mug {number}", f"Mug {number}!")
            (batch,) = made.batches([JudgeItem("e", (question,))])
            try:
                made.opinions(batch)
            except SemError:
                alarms += 1
    kinds = len(judges.BAD)
    return [
        ("R15", f"bad judges caught ({kinds} kinds, 3 modes)", f"{caught}/{tried}", "4/4 kinds"),
        ("R15", "verdicts of bad judges that count", str(kept), "0"),
        ("R15", "false alarms on an honest judge", f"{alarms}/{args.alarms}", "0/100"),
    ]


def court(url: str, folder: Path, mode: str, workers: int = 4) -> Judge:
    made = client(url, folder, workers=workers)
    return Judge(
        judge_prompts.MODES[mode],
        judge_config.JudgeSettings(made.settings, batch=40),
        made,
        folder / "judge_run.jsonl",
    )


def cases(count: int) -> list[judge_questions.JudgeCase]:
    """Return `count` examples with one free text each."""
    made = []
    for number in range(count):
        name, said = f"e{number:03}", f"a mug number {number} of clay"
        question = judge_prompts.JudgeQuestion(name, "text", f"a {said}", said)
        slot = SlotScore(None, None, said=True, wanted=True)
        score = Score(name, "t", "d", "s", True, True, False, {"text": slot}, 1, 1, 1, "stop")
        made.append(judge_questions.JudgeCase(score, JudgeItem(name, (question,))))
    return made


def kills(args: argparse.Namespace, folder: Path) -> list[Row]:
    """kill -9 at random moments of a sitting of 200 examples, with one worker and with four."""
    return [row for workers in (1, 4) for row in killed(args, folder / str(workers), workers)]


def killed(args: argparse.Namespace, folder: Path, workers: int) -> list[Row]:
    os.environ["STUB_KEY"] = KEYS[0]
    dice, done, count, rounds = random.Random(workers), 0, 0, 0
    complete = twice = lost = 0
    with served("honest") as (url, log):
        warm(url, folder)
        log.write_text("")
        while count < args.kills:
            home = folder / str(rounds)
            rounds, done = rounds + 1, 0
            while not done:
                child = fork(lambda home=home: sit(url, home, workers))
                ended = finished(child, 0.3 + dice.random() * 2.2)
                if ended is None:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    count += 1
                done = ended == 0
            rows = list(files.read_rows(home / "verdicts.test.jsonl"))
            complete += {row["id"] for row in rows} == {f"e{n:03}" for n in range(200)}
            twice += len(rows) - len({row["id"] for row in rows})
            lost += sum(row["status"] != "judged" for row in rows)
            lost += len(court(url, home, "slots").client.ledger.damage())
        paid = Counter(line.split()[1] for line in log.read_text().splitlines())
    again = sum(paid.values()) - rounds * 2 * (200 + 5 * 12)
    limit = count * workers
    return [
        (
            "R17",
            f"sittings complete after kills ({workers} in flight, {count} kills)",
            f"{complete}/{rounds}",
            "all",
        ),
        ("R17", f"rows lost, damaged or twice ({workers} in flight)", str(lost + twice), "0"),
        (
            "R17",
            f"calls paid twice ({workers} in flight)",
            f"{again} of {sum(paid.values())}",
            f"<= {limit}",
        ),
    ]


def sit(url: str, folder: Path, workers: int) -> None:
    made = court(url, folder, "slots", workers)
    for _ in judge_questions.judge_cases(
        made, cases(200), AnswerFile(folder / "verdicts.test.jsonl", {"v": 1})
    ):
        pass


def finished(child: int, within_s: float) -> int | None:
    """Return the exit status of `child`, None when it still runs after `within_s` seconds."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    return None


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "faults": faults,
    "caps": caps,
    "bad": bad,
    "kills": kills,
    "pace": pace,
}

if __name__ == "__main__":
    console.run_main(main)
