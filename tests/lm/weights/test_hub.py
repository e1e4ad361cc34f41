"""A hub model: one commit, safetensors and configs only, kept whole, fetched once."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hubserver import HubServer

from sem.core.errors import SemError
from sem.lm.weights import weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"import os",
    "onnx/config.json": b"{}",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a snapshot download needs; it remembers what was asked."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.split(f"/resolve/{COMMIT}/")[-1]
        if self.path.startswith("/api/models/org/name"):
            listed = [
                {"rfilename": name, "path": name, "type": "file", "size": len(content), "oid": "0"}
                for name, content in FILES.items()
            ]
            is_tree = "/tree/" in self.path
            info = {"id": "org/name", "sha": COMMIT, "siblings": listed}
            self.answer(json.dumps(listed if is_tree else info).encode())
        elif name in FILES:
            self.answer(FILES[name])
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *ignored: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    # As every script sets it.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(Hub, "asked", [])
    yield Hub
    server.shutdown()


def test_one_commit_is_kept_without_pickle_code_or_other_formats(hub, tmp_path):
    found = weights.resolve_weights(f"org/name@{COMMIT}", tmp_path)

    assert found.revision == COMMIT
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "SOURCE.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not [path for path in hub.asked if "evil" in path or ".bin" in path]


def test_a_second_call_asks_the_hub_nothing(hub, tmp_path):
    first = weights.resolve_weights(f"org/name@{COMMIT}", tmp_path)
    hub.asked.clear()

    assert weights.resolve_weights(f"org/name@{COMMIT}", tmp_path) == first
    assert hub.asked == []


def test_the_hub_can_be_forbidden(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("SEM_OFFLINE", "1")

    with pytest.raises(SemError, match="is not on this disk"):
        weights.resolve_weights(f"org/name@{COMMIT}", tmp_path)

    assert hub.asked == []


def test_a_commit_the_hub_does_not_have_is_one_clear_line(hub, tmp_path):
    with pytest.raises(SemError, match=r"cannot fetch org/other@0123456789ab from the hub"):
        weights.resolve_weights(f"org/other@{COMMIT}", tmp_path)

    assert not list(Path(tmp_path).glob("models/base/org*"))


def test_a_base_model_of_the_hub_is_fetched_at_its_commit_by_the_clients_own_protocol(
    monkeypatch, tmp_path, tiny_model
):
    # The whole of the hub's API that a download uses, and a model that loads.
    content = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        first = server.add_commit("models/org/tiny", content | {"setup.py": b"import os"})
        server.add_commit("models/org/tiny", {"config.json": b"{}"})

        found = weights.resolve_weights(f"org/tiny@{first}", tmp_path)

        assert found.revision == first
        assert not (found.folder / "setup.py").exists()
        assert (found.folder / "model.safetensors").read_bytes() == content["model.safetensors"]
        assert server.tokens == {"Bearer hf_token_of_a_test"}
        with pytest.raises(SemError, match="a hub id needs its commit"):
            weights.resolve_weights("org/tiny", tmp_path)
