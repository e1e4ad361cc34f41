"""A package served over HTTP: in a thread of this process, or as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from paths import ROOT

from sem.lm.server import process
from sem.package.serve.expert import Expert, Extraction, PageQuestion
from sem.package.serve.http.app import build_expert_app
from sem.package.serve.http.capture import CaptureFolder
from sem.package.serve.http.service import FIRST_PAGE, ExpertService
from sem.package.serve.http.settings import ExpertSettings


class GatedExpert:
    """An expert that waits at a gate, then does what the `real` one does.

    `batches` are the pages that came, without the server's own first one.
    """

    def __init__(self, real: Expert) -> None:
        self.real, self.contract, self.engine = real, real.contract, real.engine
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[list[Any]] = []

    def extract_many(self, questions: Sequence[PageQuestion]) -> list[Extraction]:
        pages = [question.page for question in questions if question.page is not FIRST_PAGE]
        if pages:
            self.batches.append(pages)
            self.entered.set()
            assert self.gate.wait(30)
        if any("BOOM" in page for page in pages):
            raise RuntimeError("secret detail of BOOM")
        return self.real.extract_many(questions)

    def close(self) -> None:
        """Leave the real one open, for the next test."""


class ServedExpert:
    """The server of `expert` in a thread of this process, on a free port; a context manager."""

    def __init__(
        self,
        expert: Any,
        keys: tuple[str, ...] = (),
        capture: Path | None = None,
        fallback: Any = None,
        **settings: Any,
    ) -> None:
        self.settings = ExpertSettings(**{"port": 0} | settings)
        captures = CaptureFolder(capture, "run1", self.settings) if capture else None
        self.service = ExpertService(expert, self.settings, "run1", captures, fallback=fallback)
        listener = process.open_listener(self.settings)
        self.port = listener.getsockname()[1]
        self.server = process.http_server(self.settings, build_expert_app(self.service, keys))
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def until_ready(self) -> "ServedExpert":
        """Wait for the answer to the first request."""
        wait_for(lambda: self.http.get("/ready").status_code == 200)
        return self

    def post(self, path: str, **body: Any) -> httpx.Response:
        """POST `body` as JSON."""
        return self.http.post(path, json=body)

    def total(self, name: str) -> int:
        """Return how often the counter `name` was raised."""
        return self.service.metrics.total(name)

    def end(self) -> None:
        """End as on SIGTERM; what was accepted is answered."""
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()

    def __enter__(self) -> "ServedExpert":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.end()


class RunningExpert:
    """`scripts/package_serve.py` on a free port; `lines` is what it logged, once it ended."""

    def __init__(self, package: Path, log: Path, *words: str, **env: str) -> None:
        script = str(ROOT / "scripts" / "package_serve.py")
        command = [sys.executable, "-P", script, "--path", str(package), "--port", "0", *words]
        path = {"PYTHONPATH": str(ROOT / "scripts")}
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **path, **env}
            )
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url, log.read_text()

    def end(self, within_s: float = 60) -> int:
        """Send SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return what it logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def __enter__(self) -> "RunningExpert":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def wait_for(claim: Callable[[], bool], within_s: float = 30) -> None:
    """Wait until `claim` holds; fail when it does not in time."""
    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.005)
