"""The prompt optimizer's service against a plain PyTorch + FastAPI server, in one run.

    python benchmarks/speed/optimizer_load.py                     the newest optimizer
    python benchmarks/speed/optimizer_load.py --name RUN --seconds 60 --max-length 256

Both servers hold the same network and decode greedily with the same room; the plain one is what
one writes first: a `def` endpoint that calls TorchRewriter.rewrite with one prompt. Then, without
HTTP, what the fast engine writes is compared with what PyTorch writes.

Reads   models/optimizer/RUN, data/optimizer/test.json (prompts of held-out families)
Writes  benchmarks/results/optimizer_load.md
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.clean import machine
from sem.core import console, files, projects
from sem.core.errors import SemError
from sem.optimizer import layout
from sem.optimizer.data import optimizer_data
from sem.optimizer.model import rewriter
from sem.optimizer.model.rewriter import Decoding, Rewrite

ROOT = projects.project_tree()
RESULT = Path(__file__).resolve().parents[1] / "results" / "optimizer_load.md"
PORT = 8_642
SLOTS = ("persona", "context", "task", "constraints", "steps", "goal")


@dataclass
class Cell:
    """One server at one concurrency."""

    server: str
    clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.statuses.get(200, 0) / self.seconds if self.seconds else 0.0

    def at(self, share: float) -> float:
        """Return the latency, s, below which `share` of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--name", help="a run (default: the promoted, else the newest)")
    parser.add_argument("--seconds", type=float, default=60, help="of each cell, at least")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--compared", type=int, default=64, help="prompts for parity")
    parser.add_argument("--weights", default="float32", help="float32 or int8")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.plain is not None:
        return plain(rewriter.find_optimizer(ROOT, args.name), args.plain, args.max_length)
    began = os.getloadavg()
    folder, prompts = rewriter.find_optimizer(ROOT, args.name), held_out()
    cells = [cell for clients in args.clients for cell in both(folder, prompts, clients, args)]
    compared = parity(folder, prompts[: args.compared], args.max_length)
    lines = report(folder, cells, compared, args, began)
    print("\n".join(lines))
    console.print_output_path(files.write_file(RESULT, "\n".join(lines) + "\n"))


def held_out() -> list[str]:
    """Prompts of families that training did not see, in an order that mixes them."""
    found = list(dict.fromkeys(pair.input for pair in optimizer_data.load_pairs(ROOT, "test")))
    return sorted(found, key=files.sha256_text)


def both(folder: Path, prompts: list[str], clients: int, args: argparse.Namespace) -> list[Cell]:
    """Return the two servers in turn, so that other jobs on the machine weigh on both."""
    waiting = f"max_waiting={2 * max(32, clients)}"
    servers = {
        "plain": plain_words(folder.name, PORT, args.max_length),
        "sem": sem_words(folder.name, PORT, waiting, "timeout_s=600", f"weights={args.weights}"),
    }
    cells = []
    for name, words in servers.items():
        with Server(words, PORT) as server:
            cells.append(asyncio.run(asked(name, server.url, prompts, clients, args)))
        made = cells[-1]
        console.print_note(f"{name} x{clients}: {made.rate:.2f}/s, {made.statuses}")
    return cells


async def asked(
    name: str, url: str, prompts: list[str], clients: int, args: argparse.Namespace
) -> Cell:
    """Return `clients` that each ask, wait, and ask again for the seconds of `args`."""
    cell, port = Cell(name, clients), int(url.rsplit(":", 1)[1])
    bodies = [
        {"raw_prompt": each, "max_length": args.max_length, "temperature": 0} for each in prompts
    ]
    # The first request pays for what the others use.
    await ask(port, bodies[0])
    began = time.monotonic()

    async def one(number: int) -> None:
        while time.monotonic() < began + args.seconds:
            start = time.monotonic()
            status = await ask(port, bodies[number % len(bodies)])
            cell.latencies.append(time.monotonic() - start)
            cell.statuses[status] = cell.statuses.get(status, 0) + 1
            number += clients

    await asyncio.gather(*(one(number) for number in range(clients)))
    cell.seconds = time.monotonic() - began
    return cell


async def ask(port: int, body: dict[str, Any]) -> int:
    """POST `body` to /optimize; the status. By hand.

    A client library takes more than the server.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = json.dumps(body).encode()
    writer.write(
        b"POST /optimize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(sent), sent)
    )
    reply = await reader.read()
    writer.close()
    return int(reply.split(b" ", 2)[1])


class Server:
    """`words` as a process; its address once it answers with the network loaded."""

    def __init__(self, words: list[str], port: int, log: Path | None = None) -> None:
        self.words, self.url, self.log = words, f"http://127.0.0.1:{port}", log

    def __enter__(self) -> "Server":
        import httpx

        with open(self.log or os.devnull, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.words], stdout=subprocess.DEVNULL, stderr=log
            )
        for _ in range(3_000):
            time.sleep(0.1)
            if self.process.poll() is not None:
                raise SemError(f"{self.words[0]} ended with {self.process.returncode}", "run it")
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).json()["model_loaded"]:
                    return self
            except httpx.TransportError:
                continue
        raise SemError("the server loads nothing in 300 s", "look at the machine's load")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def sem_words(run: str, port: int, *settings: str) -> list[str]:
    """Return the command of this project's service for the optimizer `run`."""
    script = Path(__file__).resolve().parents[2] / "scripts" / "optimizer_serve.py"
    flags = [word for each in settings for word in ("--set", f"serve.{each}")]
    return [str(script), "--name", run, "--set", f"serve.port={port}", *flags]


def plain_words(run: str, port: int, max_length: int) -> list[str]:
    """Return the command of the plain server."""
    return [
        str(Path(__file__).resolve()),
        "--name",
        run,
        "--plain",
        str(port),
        "--max-length",
        str(max_length),
    ]


def plain(folder: Path, port: int, room: int) -> None:
    """The server one writes first, with the same network."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    from sem.optimizer.model import confidence

    class Asked(BaseModel):
        raw_prompt: str
        max_length: int = room
        temperature: float = 0.0

    loaded = rewriter.TorchRewriter.load(folder, ROOT)
    calibration = confidence.load_calibration(folder)
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"model_loaded": True}

    @app.post("/optimize")
    def optimize(body: Asked) -> dict[str, Any]:
        decoding = Decoding(body.max_length, body.temperature, 1)
        (made,) = loaded.rewrite([body.raw_prompt], decoding)
        sure = confidence.rewrite_confidence(made, body.raw_prompt, calibration)
        return {"optimized_prompt": made.text, "confidence": sure}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


@dataclass(frozen=True)
class Parity:
    """How an engine's rewrites compare with PyTorch's."""

    weights: str
    equal: int
    # Of those where both are a whole layout.
    slots: dict[str, int]
    # PyTorch's, the engine's, both.
    layouts: tuple[int, int, int]
    # Mean absolute difference of the mean log p, where texts are equal.
    drift: float


def parity(folder: Path, prompts: list[str], max_length: int) -> tuple[int, list[Parity]]:
    """Return what float32 and int8 write for `prompts`, against PyTorch, greedily."""
    from sem.optimizer.model.fast_rewriter import WEIGHTS, Engine, FastRewriter

    decoding, torch_rewriter = (
        Decoding(max_length, 0.0, 1),
        rewriter.TorchRewriter.load(folder, ROOT),
    )
    there: list[Rewrite] = []
    for start in range(0, len(prompts), 16):
        there += torch_rewriter.rewrite(prompts[start : start + 16], decoding)
    found = []
    for weights in sorted(WEIGHTS):
        here = FastRewriter.load(folder, ROOT, Engine(weights)).rewrite(prompts, decoding)
        found.append(compared(weights, there, here))
    return len(prompts), found


def compared(weights: str, there: list[Rewrite], here: list[Rewrite]) -> Parity:
    pairs = [
        (layout.read_layout(a.text), layout.read_layout(b.text))
        for a, b in zip(there, here, strict=True)
    ]
    whole = [(a, b) for a, b in pairs if a and b]
    slots = {name: sum(getattr(a, name) == getattr(b, name) for a, b in whole) for name in SLOTS}
    same = [(a, b) for a, b in zip(there, here, strict=True) if a.text == b.text]
    drift = sum(abs(a.mean_logprob - b.mean_logprob) for a, b in same) / max(1, len(same))
    counts = (
        sum(a is not None for a, _ in pairs),
        sum(b is not None for _, b in pairs),
        len(whole),
    )
    return Parity(weights, len(same), slots, counts, drift)


def report(
    folder: Path,
    cells: list[Cell],
    found: tuple[int, list[Parity]],
    args: argparse.Namespace,
    began: tuple[float, float, float],
) -> list[str]:
    rates = {(cell.server, cell.clients): cell.rate for cell in cells}
    lines = [
        "# The optimizer's service under load",
        "",
        f"Command: `python benchmarks/speed/optimizer_load.py {' '.join(sys.argv[1:])}`",
        "",
        f"{machine()}. Optimizer {folder.name}. Greedy, at most {args.max_length} tokens, prompts "
        f"of held-out families; {args.seconds:g} s a cell and until the last answer. Client and "
        f"server share the machine, whose load average was {began[0]:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after: the ratios are the result, the rates are not.",
        "",
        "`plain` is PyTorch fp32 behind a FastAPI `def` endpoint, one prompt a call; `sem` is "
        "this project's service (CTranslate2, "
        f"{args.weights}, batches).",
        "",
        "| clients | server | answers | requests/s | p50 s | p95 s | other than 200 | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        other = sum(cell.statuses.values()) - cell.statuses.get(200, 0)
        base = rates.get(("plain", cell.clients), 0)
        ratio = f"{cell.rate / base:.1f}" if base and cell.server == "sem" else ""
        lines.append(
            f"| {cell.clients} | {cell.server} | {len(cell.latencies)} | {cell.rate:.2f} "
            f"| {cell.at(0.5):.2f} | {cell.at(0.95):.2f} | {other} | {ratio} |"
        )
    return [*lines, "", *_parity_lines(*found)]


def _parity_lines(count: int, found: list[Parity]) -> list[str]:
    lines = [
        f"## The engine against PyTorch, {count} prompts",
        "",
        "| weights | texts equal | whole layouts (PyTorch, engine, both) | "
        + " | ".join(SLOTS)
        + " | drift of mean log p |",
        "|---|---|---|" + "---|" * len(SLOTS) + "---|",
    ]
    for each in found:
        both = each.layouts[2]
        slots = " | ".join(f"{each.slots[name]}/{both}" for name in SLOTS)
        shown = ", ".join(map(str, each.layouts))
        lines.append(
            f"| {each.weights} | {each.equal}/{count} | {shown} | {slots} | {each.drift:.1e} |"
        )
    lines += [
        "",
        "A slot counts as equal only when it is the same text. `drift` is over the "
        "texts that are equal.",
    ]
    return lines


if __name__ == "__main__":
    console.run_main(main)
