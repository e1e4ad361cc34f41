"""Pages a second of a served package against the bare engines, with the same model and prompts.

    python benchmarks/speed/serving.py PACKAGE PAGES.jsonl [--clients 1 8 64] [--of llamacpp vllm]

PAGES.jsonl holds raw pages (`page`, `task`), as `package.predict` reads them. `package.serve`
cleans, renders, checks and measures each page; the bare engines are sent the finished prompt as
token ids with the same grammar, over HTTP as well, and their answers are looked at no further.
Bare Transformers is `generate` on one prompt after another, without a schema. The contenders run
one after another in this one run, each alone on the machine.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.speed.clean import machine
from sem import Expert
from sem.core import files, jsonio
from sem.lm.local import chat as chats
from sem.lm.local import constrain, hardware
from sem.lm.local import model as models
from sem.package import contract as contracts
from sem.package.export import targets
from sem.package.parity.runtimes import VLLM_PYTHON, Asked, VllmRuntime
from sem.package.serve.expert import PageQuestion

SLOTS = 8
# Asks one page or prompt; returns the tokens of the answer.
Ask = Callable[[dict[str, Any]], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("pages", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--per-level", type=int, default=16, help="least pages of a level")
    parser.add_argument("--of", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    args = parser.parse_args()
    pages = list(files.read_rows(args.pages))
    prompts = finished_prompts(args.package, pages)
    lines = []
    for name in args.of:
        with CONTENDERS[name](args.package) as ask:
            ask(prompts[-1])
            for clients in args.clients if name != "Transformers, generate" else [1]:
                count = max(args.per_level, clients)
                lines.append(level(name, ask, prompts, clients, count))
                print(lines[-1], file=sys.stderr, flush=True)
    tokens = sum(len(prompt["ids"]) for prompt in prompts) / len(prompts)
    print(
        "# A served package against bare engines\n\n"
        f"Command: `python benchmarks/speed/serving.py PACKAGE PAGES.jsonl`. {machine()}; "
        f"{len(prompts)} pages of {tokens:.0f} prompt tokens on average, {SLOTS} slots, "
        "answers held to the schema but where `generate` is named.\n\n"
        "| contender | clients | requests | requests/s | answer tokens/s | p50 s | p95 s |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(lines)
    )


def finished_prompts(package: Path, pages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each page with its prompt, as the package makes it; refused pages are left out."""
    asked = contracts.read_contract(package)
    prompts = []
    with Expert.load(package, verify=False) as expert:
        for row in pages:
            question = PageQuestion(row["page"], row["task"], row.get("url"))
            ready = expert._rendered(expert._cleaned(question))
            if hasattr(ready, "prompt"):
                schema = jsonio.canonical_json(asked.tasks[row["task"]].io_schema)
                prompts.append({**row, "ids": list(ready.prompt.ids), "schema": schema})
    return prompts


def level(name: str, ask: Ask, prompts: Sequence[Any], clients: int, count: int) -> str:
    """Return the row of `count` requests by `clients` at once."""
    seconds: list[float] = []

    def timed(prompt: dict[str, Any]) -> int:
        began = time.perf_counter()
        tokens = ask(prompt)
        seconds.append(time.perf_counter() - began)
        return tokens

    asked = [prompts[number % len(prompts)] for number in range(count)]
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as lanes:
        tokens = sum(lanes.map(timed, asked))
    whole = time.perf_counter() - began
    ordered = sorted(seconds)
    p50, p95 = (ordered[min(len(ordered) - 1, int(s * len(ordered)))] for s in (0.5, 0.95))
    return (
        f"| {name} | {clients} | {count} | {count / whole:.3f} | {tokens / whole:.1f} | "
        f"{p50:.2f} | {p95:.2f} |"
    )


def posting(address: str, body_of: Callable[[Any], Any], tokens_of: Callable[[Any], int]) -> Ask:
    """Return what posts `body_of(prompt)` and counts the reply's tokens by `tokens_of`."""
    import httpx

    client = httpx.Client(timeout=600, trust_env=False, limits=httpx.Limits(max_connections=None))

    def ask(prompt: dict[str, Any]) -> int:
        reply = client.post(address, json=body_of(prompt))
        reply.raise_for_status()
        return tokens_of(reply.json())

    return ask


@contextmanager
def served(package: Path, engine: str) -> Iterator[Ask]:
    """`package.serve` in a process of its own."""
    words = [sys.executable, "-m", "sem", "package.serve", "--path", str(package)]
    words += ["--engine", engine, "--port", "0", "--set", f"serve.max_batch={SLOTS}"]
    words += ["--set", "serve.timeout_s=600"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        try:
            yield posting(
                f"{address}/v1/extract",
                lambda prompt: {"html": prompt["page"], "task": prompt["task"]},
                lambda reply: reply["tokens_out"],
            )
        finally:
            process.terminate()


BARE = """
import json, sys
from pathlib import Path
from sem.lm.local.llamacpp import Server, Serving
server = Server(Serving(Path(sys.argv[1]), port=0, context=int(sys.argv[2]), slots=int(sys.argv[3])))
print(server._server.listening_address, flush=True)
server.wait()
"""


@contextmanager
def bare_llamacpp(package: Path) -> Iterator[Ask]:
    """llama.cpp's own server on the package's GGUF, in a process of its own."""
    asked = contracts.read_contract(package)
    path = package / targets.GGUF["llamacpp"][0]
    words = [sys.executable, "-c", BARE, str(path), str(asked.context), str(SLOTS)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        try:
            yield posting(
                f"{address}/completion",
                lambda prompt: {
                    "prompt": prompt["ids"],
                    "n_predict": asked.max_new_tokens,
                    "temperature": 0,
                    "cache_prompt": True,
                    "grammar": constrain.lark_of_schema(prompt["schema"]),
                },
                lambda reply: reply["tokens_predicted"],
            )
        finally:
            process.kill()


@contextmanager
def bare_vllm(package: Path) -> Iterator[Ask]:
    """vLLM's own server on the merged model; $SEM_VLLM_PYTHON names its interpreter."""
    asked = contracts.read_contract(package)
    talk = chats.load_chat(package / "model")
    dtype = hardware.detect_hardware().dtype
    runtime = VllmRuntime(Asked(package, package, talk, {}, asked.context, dtype))

    def body_of(prompt: dict[str, Any]) -> dict[str, Any]:
        grammar = constrain.lark_of_schema(prompt["schema"]).partition("\n")[2]
        return {
            "model": runtime._model,
            "prompt": prompt["ids"],
            "max_tokens": asked.max_new_tokens,
            "temperature": 0,
            "structured_outputs": {"grammar": grammar},
        }

    try:
        yield posting(
            f"{runtime._address}/v1/completions",
            body_of,
            lambda reply: reply["usage"]["completion_tokens"],
        )
    finally:
        runtime.close()


@contextmanager
def bare_transformers(package: Path) -> Iterator[Ask]:
    """`generate` on one prompt after another, in this process."""
    import torch

    asked, talk = contracts.read_contract(package), chats.load_chat(package / "model")
    seen = hardware.detect_hardware()
    model = models.load_model(package / "model", seen.dtype, seen.device)

    def ask(prompt: dict[str, Any]) -> int:
        ids = torch.tensor([prompt["ids"]])
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=asked.max_new_tokens,
            do_sample=False,
            eos_token_id=talk.stop_ids,
            pad_token_id=talk.tokenizer.pad_token_id,
        )
        return out.shape[1] - ids.shape[1]

    yield ask


CONTENDERS: dict[str, Any] = {
    "package.serve, llamacpp": lambda package: served(package, "llamacpp"),
    "llama.cpp, bare": bare_llamacpp,
    "package.serve, transformers": lambda package: served(package, "transformers"),
    "Transformers, generate": bare_transformers,
    **({"vLLM, bare": bare_vllm} if os.environ.get(VLLM_PYTHON) else {}),
}

if __name__ == "__main__":
    main()
