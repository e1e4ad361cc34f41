"""Small optimizers to serve, made here, and the service as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from paths import ROOT

from sem.core import files
from sem.lm.server import process
from sem.lm.weights import pinned_base, weights
from sem.optimizer.model.fast_rewriter import Engine
from sem.optimizer.model.rewriter import Decoding, Rewrite
from sem.optimizer.server import app, network
from sem.optimizer.server.config import ServeSettings
from sem.optimizer.server.service import Service

CALIBRATION = {
    "intercept": 3.0,
    "slope": 2.0,
    "rows": 10,
    "useful": 5,
    "families": 2,
    "brier": 0.2,
}


def make_optimizer(
    root: Path, base: Path, name: str = "run1", scale: float = 0.3, stem: Path | None = None
) -> Path:
    """Return a sealed optimizer below `root` over `base`.

    Its LoRA is random, zero with a `scale` of 0.
    """
    folder = root / "models" / "optimizer" / name
    make_adapter(folder / "adapter", stem or base, scale)
    found = weights.resolve_weights(str(base), root)
    named = pinned_base.describe_base(str(base), found)
    files.write_file(folder / "run.json", json.dumps({"base_model": named}))
    files.write_file(folder / "calibration.json", json.dumps(CALIBRATION))
    listed = {str(p.relative_to(folder)): files.sha256_file(p) for p in folder.rglob("*.*")}
    files.write_file(folder / "manifest.json", json.dumps({"files": listed}))
    return folder


def make_adapter(folder: Path, base: Path, scale: float) -> Path:
    """Return a LoRA of rank 4 on every q and v of the T5 in `base`."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    dice, made = torch.Generator().manual_seed(3), {}
    with safe_open(base / "model.safetensors", framework="pt") as tensors:
        for key in sorted(tensors.keys()):
            if key.endswith(("Attention.q.weight", "Attention.v.weight")):
                wide, tall = tensors.get_slice(key).get_shape()
                module = f"base_model.model.{key.removesuffix('.weight')}"
                made[f"{module}.lora_A.weight"] = torch.randn(4, tall, generator=dice)
                made[f"{module}.lora_B.weight"] = torch.randn(wide, 4, generator=dice) * scale
    save_file(made, folder / "adapter_model.safetensors")
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["q", "v"], "peft_type": "LORA"}
    files.write_file(folder / "adapter_config.json", json.dumps(config))
    return folder


class Running:
    """`scripts/optimizer_serve.py` on a free port; `lines` is what it logged, once it ended."""

    def __init__(self, root: Path, *settings: str, wait: bool = True, **env: str) -> None:
        words = [sys.executable, "-P", str(ROOT / "scripts" / "optimizer_serve.py")]
        for each in ("port=0", "threads=1", "retry_s=0.2", *settings):
            words += ["--set", f"serve.{each}"]
        there = {**os.environ, "SEM_ROOT": str(root), "PYTHONPATH": str(ROOT / "scripts"), **env}
        self.log = root / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env=there)
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url, self.log.read_text()
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        if wait:
            self.until_loaded()

    def until_loaded(self, within_s: float = 120) -> None:
        """Wait for the network; what /health says meanwhile is a reply, never an error."""
        end = time.monotonic() + within_s
        while not self.http.get("/health").json()["model_loaded"]:
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def post(self, path: str, **body: Any) -> httpx.Response:
        """POST `body` as JSON."""
        return self.http.post(path, json=body)

    def end(self, within_s: float = 60) -> int:
        """Send SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return what it logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Served:
    """The service in a thread of this process, on a free port; `load` gives its network."""

    def __init__(self, root: Path, load: Any, key: str | None = None, **settings: Any) -> None:
        self.settings = ServeSettings(**{"port": 0, "threads": 1, "retry_s": 0.05} | settings)
        self.service = Service(self.settings, root, load)
        bound = process.open_listener(self.settings)
        self.port = bound.getsockname()[1]
        self.server = process.http_server(
            self.settings, app.build_app(self.service, (key,) if key else ())
        )
        self.thread = threading.Thread(target=self.server.run, args=([bound],), daemon=True)
        self.thread.start()
        url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def until_loaded(self) -> "Served":
        """Wait for the network."""
        end = time.monotonic() + 60
        while not self.http.get("/health").json()["model_loaded"]:
            assert time.monotonic() < end, self.service.loading.fault
            time.sleep(0.01)
        return self

    def post(self, path: str, **body: Any) -> httpx.Response:
        """POST `body` as JSON."""
        return self.http.post(path, json=body)

    def end(self) -> None:
        """End as on SIGTERM; what was accepted is answered."""
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()

    def __enter__(self) -> "Served":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()
        self.end()


class Gated:
    """A rewriter that waits at a gate, then does what the `real` one does.

    BATCHES is what came.
    """

    def __init__(self, real: Any) -> None:
        self.real = real
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []
        self.limit, self.end, self.speaker = real.limit, real.end, real.speaker
        self.text = real.text

    def count(self, prompt: str) -> int:
        return self.real.count(prompt)

    def rewrite(
        self, prompts: Sequence[str], decoding: Decoding, watch: Any = None
    ) -> list[Rewrite]:
        self.batches.append(list(prompts))
        self.entered.set()
        assert self.gate.wait(30)
        if "BOOM" in prompts:
            raise RuntimeError("secret detail of BOOM")
        return self.real.rewrite(prompts, decoding, watch)


def load(root: Path) -> network.Network:
    """Return the newest optimizer of `root`, in int8 on one thread."""
    return network.load_served_network(root, None, Engine("int8", 1))
