"""The command itself, as a process: it starts, says where it is, ends when told, and cleanly."""

import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from rewriters import ROOT, Running, make_optimizer
from toy import make_t5

from sem.core.errors import SemError
from sem.lm.server import process
from sem.optimizer.server.config import ServeSettings


def test_a_port_that_is_taken_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SemError) as caught:
            process.open_listener(ServeSettings(port=port))

    assert caught.value.message == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert caught.value.hint.startswith("name another port: --set serve.port=8001")


@pytest.mark.slow
def test_sigterm_under_load_loses_nothing_that_was_accepted(tmp_path: Path):
    make_optimizer(tmp_path, make_t5(tmp_path / "t5"))
    answers: Counter[int] = Counter()
    over = threading.Event()

    def client(url: str) -> None:
        body = {"raw_prompt": "write code", "max_length": 8, "temperature": 0}
        while not over.is_set():
            try:
                reply = httpx.post(f"{url}/optimize", json=body, timeout=60, trust_env=False)
            except httpx.TransportError:
                # The connection was not taken any more.
                return
            answers[reply.status_code] += 1

    with Running(tmp_path, SEM_API_KEY="") as running:
        clients = [threading.Thread(target=client, args=(running.url,)) for _ in range(8)]
        for each in clients:
            each.start()
        threading.Event().wait(2)
        code = running.end()
        over.set()
        for each in clients:
            each.join(60)
        ended = running.lines[-1]

    assert code == 0
    assert ended["event"] == "ended"
    assert ended["accepted"] == ended["answered"] == answers[200] > 0
    assert set(answers) == {200}


@pytest.mark.slow
def test_the_alias_is_the_same_program(tmp_path: Path):
    words = [sys.executable, str(ROOT / "src" / "start_lora_api.py"), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert "Serve the prompt optimizer here" in done.stdout
