"""Small optimizers to serve, made here, and the service as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from sem.core import files
from sem.lm import weights

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION = {"intercept": 3.0, "slope": 2.0, "rows": 10, "useful": 5, "families": 2,
               "brier": 0.2}  # fmt: skip


def make_optimizer(
    root: Path, base: Path, name: str = "run1", scale: float = 0.3, stem: Path | None = None
) -> Path:
    """A sealed optimizer below ROOT over BASE; its LoRA is random, zero with a SCALE of 0."""
    folder = root / "models" / "optimizer" / name
    make_adapter(folder / "adapter", stem or base, scale)
    named = {"base_model_id": str(base), "revision": weights.resolve(str(base), root).revision}
    files.write(folder / "run.json", json.dumps({"base_model": named}))
    files.write(folder / "calibration.json", json.dumps(CALIBRATION))
    listed = {str(p.relative_to(folder)): files.sha256(p) for p in folder.rglob("*.*")}
    files.write(folder / "manifest.json", json.dumps({"files": listed}))
    return folder


def make_adapter(folder: Path, base: Path, scale: float) -> Path:
    """A LoRA of rank 4 on every q and v of the T5 in BASE."""
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
    files.write(folder / "adapter_config.json", json.dumps(config))
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
        """POST BODY as JSON."""
        return self.http.post(path, json=body)

    def end(self, within_s: float = 60) -> int:
        """Send SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
