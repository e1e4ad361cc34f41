"""The optimizer's service under faults: hostile and slow clients, SIGTERM, overload (R21).

    python benchmarks/faults/serving.py                      all parts
    python benchmarks/faults/serving.py --only overload      one of them: mix slow term overload

Every part runs the real service as a process, asked over TCP from this one.

Reads   models/optimizer/RUN, data/optimizer/test.json
Writes  benchmarks/results/faults_serving.md
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]
from benchmarks.speed.clean import machine  # noqa: E402
from benchmarks.speed.optimizer_load import Server, held_out, sem_words  # noqa: E402
from sem.core import console, files, projects  # noqa: E402
from sem.optimizer.model import rewriter  # noqa: E402

PORT = 8_643
Row = tuple[str, str, str, str]
HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"[" * 30_000,
    b"\xff\xfe\x00",
    b'{"raw_prompt":"\\ud800"}',
    b'{"raw_prompt":NaN}',
    b'{"raw_prompt":"a","temperature":1e999}',
    b'{"raw_prompt":""}',
    b'{"raw_prompt":"a","max_length":' + b"9" * 5_000 + b"}",
    b'{"raw_prompt":{"$ne":1}}',
    b'{"raw_prompt":"a","max_length":513}',
    b'{"raw_prompt":"%s"}' % (b"a " * 400),
    b'{"raw_prompt":"%s"}' % (b"x" * 60_000),
    b"x" * 200_000,
    b'{"prompt":"a"}',
    b'{"raw_prompt":"a","stream":[]}',
    b'{"raw_prompt":true}',
    b'{"raw_prompt":"a"',
]


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--name", help="a run (default: the promoted, else the newest)")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=8, help="of the mix and of SIGTERM")
    parser.add_argument("--room", type=int, default=48, help="output tokens under overload")
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args(argv)
    args.run = rewriter.find_optimizer(projects.project_tree(), args.name).name
    args.prompts = held_out()
    began, rows = os.getloadavg()[0], []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            rows += PARTS[name](args, Path(folder))
        console.print_note(f"{name}: {rows[-1]}")
    columns = ("row", "what", "measured", "target")
    console.print_table("serving under faults", columns, rows)
    command = f"python benchmarks/faults/serving.py {' '.join(argv or sys.argv[1:])}"
    lines = [
        "# The optimizer's service under faults (R21)",
        "",
        f"Command: `{command}`",
        "",
        f"{machine()}; optimizer {args.run}; load average {began:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after. Clients and service share the machine.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    path = ROOT / "benchmarks" / "results" / "faults_serving.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


async def post(body: bytes, pause_s: float = 0, within_s: float = 120) -> int:
    """POST `body` to /optimize, `pause_s` between its bytes.

    The status of a whole reply, else 0.
    """
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
            try:
                await _send(writer, body, pause_s)
                return _status(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0


async def _send(writer: asyncio.StreamWriter, body: bytes, pause_s: float) -> None:
    writer.write(head(len(body)))
    for part in [body] if not pause_s else [body[n : n + 1] for n in range(len(body))]:
        writer.write(part)
        await writer.drain()
        if pause_s:
            await asyncio.sleep(pause_s)


def head(length: int) -> bytes:
    return (
        b"POST /optimize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
    )


def _status(reply: bytes) -> int:
    """Return the status in `reply`; 0 where the reply is not whole."""
    first, _, body = reply.partition(b"\r\n\r\n")
    length = [line for line in first.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not length or len(body) != int(length[0].split(b":")[1]):
        return 0
    return int(first.split(b" ", 2)[1])


def asked(args: argparse.Namespace, number: int, room: int) -> bytes:
    prompt = args.prompts[number % len(args.prompts)]
    return json.dumps({"raw_prompt": prompt, "max_length": room, "temperature": 0}).encode()


class Health:
    """Asks /health every 100 ms while the block runs; the times, s, of its replies."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.failed = 0

    async def __aenter__(self) -> "Health":
        self._task = asyncio.create_task(self._probe())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _probe(self) -> None:
        while True:
            began = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
                writer.write(
                    b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                status = _status(await reader.read())
                self.failed += status != 200
                writer.close()
            except OSError:
                self.failed += 1
            self.times.append(time.monotonic() - began)
            await asyncio.sleep(0.1)

    def said(self) -> str:
        found = sorted(self.times)
        p99 = found[int(0.99 * (len(found) - 1))]
        return (
            f"p50 {statistics.median(found) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, most "
            f"{found[-1] * 1000:.0f} ms of {len(found)}, {self.failed} failed"
        )


def rss_mb(pid: int) -> float:
    """Return the resident memory of the process `pid`, MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if "VmRSS" in line).split()[1]) / 1024


def mix(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Requests of which 5 % are hostile, 2 % hang up and 1 % come a byte at a time."""
    seen: dict[str, Counter[int]] = {}
    dice = random.Random(1)
    kinds = dice.choices(("good", "hostile", "left", "slow"), (92, 5, 2, 1), k=args.requests)
    work = list(enumerate(kinds))

    async def one(number: int, kind: str) -> int:
        if kind == "hostile":
            return await post(HOSTILE[number % len(HOSTILE)])
        if kind == "slow":
            return await post(asked(args, number, args.max_length), 0.3)
        if kind == "left":
            return await hang_up(asked(args, number, args.max_length), dice.random() * 0.05)
        return await post(asked(args, number, args.max_length))

    async def client() -> None:
        while work:
            number, kind = work.pop()
            seen.setdefault(kind, Counter())[await one(number, kind)] += 1

    async def all_of_it() -> Health:
        async with Health() as health:
            await asyncio.gather(*(client() for _ in range(args.clients)))
        return health

    with Server(sem_words(args.run, PORT, "read_timeout_s=3"), PORT, folder / "log") as server:
        asyncio.run(warmed(args, args.max_length))
        before, began = rss_mb(server.process.pid), time.monotonic()
        health = asyncio.run(all_of_it())
        seconds, grown = time.monotonic() - began, rss_mb(server.process.pid) - before
        alive = server.process.poll() is None
    bad = sum(
        n for found in seen.values() for code, n in found.items() if code > 500 and code != 503
    )
    bad += sum(found[500] for found in seen.values())
    what = f"{args.requests:,} requests, {args.clients} clients, {seconds:.0f} s"
    return [
        ("mix", f"{what}: 5xx besides 503", str(bad), "0"),
        ("mix", "sound requests, by status", counted(seen["good"]), "200, 429, 503 only"),
        ("mix", "hostile requests, by status", counted(seen["hostile"]), "4xx only"),
        ("mix", "a byte every 0.3 s, by status", counted(seen["slow"]), "408 or cut off"),
        ("mix", "hung up after sending", counted(seen["left"]), "—"),
        ("mix", "/health meanwhile", health.said(), "<= 250 ms"),
        ("mix", "resident memory", f"{grown:+.1f} MB, {'alive' if alive else 'DEAD'}", "<= 50 MB"),
    ]


def counted(found: Counter[int]) -> str:
    return ", ".join(f"{code or 'no reply'}: {n:,}" for code, n in sorted(found.items()))


async def hang_up(body: bytes, after_s: float) -> int:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(head(len(body)) + body)
        await writer.drain()
        await asyncio.sleep(after_s)
        writer.transport.abort()
    except OSError:
        return 0
    return 0


async def warmed(args: argparse.Namespace, room: int) -> None:
    """Three full batches: threads, arenas and buffers are there before memory is read."""
    for start in (0, 32, 64):
        await asyncio.gather(*(post(asked(args, start + n, room)) for n in range(32)))


def slow(args: argparse.Namespace, folder: Path) -> list[Row]:
    """300 bodies and 300 headers that never come to an end, at once."""

    async def never(sent: bytes) -> tuple[float, bytes]:
        began = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
            writer.write(sent)
            got = await asyncio.wait_for(reader.read(), 60)
            writer.close()
        except OSError:
            got = b""
        except TimeoutError:
            return 60.0, b"held"
        return time.monotonic() - began, got

    async def all_of_it(sent: bytes) -> tuple[list[tuple[float, bytes]], Health]:
        async with Health() as health:
            found = await asyncio.gather(*(never(sent) for _ in range(300)))
        return found, health

    rows = []
    with Server(sem_words(args.run, PORT, "max_connections=1000"), PORT, folder / "log"):
        for name, sent in (("bodies", head(50) + b"{"), ("headers", head(50)[:40])):
            found, health = asyncio.run(all_of_it(sent))
            cut = sum(seconds < 7 for seconds, _ in found)
            told = sum(got.startswith(b"HTTP/1.1 408") for _, got in found)
            longest = max(seconds for seconds, _ in found)
            rows.append(
                (
                    "slow",
                    f"300 {name} that do not end: cut off, 408 said",
                    f"{cut}/300, {told}; longest {longest:.1f} s",
                    "300/300 in 6 s",
                )
            )
            rows.append(("slow", f"/health meanwhile ({name})", health.said(), "<= 250 ms"))
    return rows


def term(args: argparse.Namespace, folder: Path) -> list[Row]:
    """SIGTERM at a random moment of full load: what was accepted is answered whole."""
    dice, lost, codes, times, done = random.Random(2), 0, Counter(), [], 0
    for number in range(args.terms):
        log = folder / f"log{number}"
        with Server(sem_words(args.run, PORT), PORT, log) as server:
            whole, seconds = asyncio.run(_ended(args, server, 1 + dice.random() * 2))
            codes[server.process.returncode] += 1
        facts = [json.loads(line) for line in log.read_text().splitlines()]
        (ended,) = [each for each in facts if each["event"] == "ended"]
        lost += ended["accepted"] - ended["answered"]
        # Answered, and not read whole by its client.
        lost += ended["answered"] - whole
        times.append(seconds)
        done += whole
    exits = ", ".join(f"{code}: {n}" for code, n in sorted(codes.items()))
    return [
        (
            "term",
            f"accepted requests lost in {args.terms} SIGTERMs under load ({done:,} answered)",
            str(lost),
            "0",
        ),
        ("term", "exit codes", exits, "0 each"),
        ("term", "from SIGTERM to the end", f"at most {max(times):.1f} s", "<= 11 s"),
    ]


async def _ended(args: argparse.Namespace, server: Server, after_s: float) -> tuple[int, float]:
    """Return how many replies came whole, and the seconds from SIGTERM to the end."""
    over, whole = asyncio.Event(), 0

    async def client(number: int) -> None:
        nonlocal whole
        while not over.is_set():
            number += 24
            # Not `whole += await …`: that adds to what `whole` was before the wait.
            status = await post(asked(args, number, args.max_length))
            whole += status == 200

    clients = [asyncio.create_task(client(number)) for number in range(24)]
    await asyncio.sleep(after_s)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    while server.process.poll() is None:
        await asyncio.sleep(0.02)
    seconds = time.monotonic() - began
    over.set()
    await asyncio.gather(*clients)
    return whole, seconds


def overload(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Ten times what the service can do, for SECONDS; sent on time, whatever comes back."""

    async def capacity() -> float:
        count, end = 0, time.monotonic() + 15

        async def client(number: int) -> None:
            nonlocal count
            while time.monotonic() < end:
                status = await post(asked(args, number, args.room))
                count += status == 200
                number += 16

        await asyncio.gather(*(client(number) for number in range(16)))
        return count / 15

    with Server(sem_words(args.run, PORT), PORT, folder / "log") as server:
        asyncio.run(warmed(args, args.room))
        able = asyncio.run(capacity())
        before = rss_mb(server.process.pid)
        seen, took, health, offered = asyncio.run(_flood(args, 10 * able))
        grown = rss_mb(server.process.pid) - before
        alive = server.process.poll() is None
    accepted = sorted(took)
    p99 = accepted[int(0.99 * (len(accepted) - 1))] if accepted else 0.0
    bad = sum(n for code, n in seen.items() if code >= 500 and code != 503)
    return [
        (
            "R21",
            f"capacity {able:.1f}/s at {args.room} tokens; offered {offered:.0f}/s for "
            f"{args.seconds:.0f} s: 5xx besides 503",
            str(bad),
            "0",
        ),
        ("R21", "by status", counted(seen), "200, 429, 503"),
        ("R21", "accepted: p99", f"{p99:.1f} s of {len(accepted)}", "<= 30 s, the deadline"),
        ("R21", "/health meanwhile", health.said(), "<= 250 ms"),
        (
            "R21",
            "resident memory",
            f"{grown:+.1f} MB, {'alive' if alive else 'DEAD'}",
            "<= +50 MB",
        ),
    ]


async def _flood(
    args: argparse.Namespace, rate: float
) -> tuple[Counter[int], list[float], Health, float]:
    """Return `rate` requests a second.

    Statuses, seconds of those answered 200, /health, the rate kept.
    """
    seen: Counter[int] = Counter()
    took: list[float] = []

    async def one(number: int) -> None:
        began = time.monotonic()
        status = await post(asked(args, number, args.room))
        seen[status] += 1
        if status == 200:
            took.append(time.monotonic() - began)

    began, number, tasks = time.monotonic(), 0, set()
    async with Health() as health:
        while (gone := time.monotonic() - began) < args.seconds:
            while number < gone * rate:
                tasks.add(task := asyncio.create_task(one(number)))
                task.add_done_callback(tasks.discard)
                number += 1
            await asyncio.sleep(0.005)
        offered = number / gone
        await asyncio.gather(*tasks)
    return seen, took, health, offered


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "mix": mix,
    "slow": slow,
    "term": term,
    "overload": overload,
}

if __name__ == "__main__":
    console.run_main(main)
