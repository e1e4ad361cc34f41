"""As much of the hub's HTTP API as huggingface_hub needs to publish and to fetch.

    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        commit = server.add_commit("models/org/name", {"config.json": b"{}"})

Repositories, commits, trees, files by git and by LFS. `server.before` may answer a request itself
with a status, or cut the line with "cut".
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import standins
from standins import StandIn

LARGE = (".safetensors", ".gguf", ".parquet")


@dataclass
class Repository:
    """Commits in order, each with all its files; `main` is the last one."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    is_private: bool = False

    def resolve(self, revision: str) -> str | None:
        """Return the commit that `revision` names."""
        if revision == "main":
            return next(reversed(self.commits))
        return revision if revision in self.commits else None


class HubServer(StandIn):
    """A hub on a free port; `asked` is what was asked, `tokens` by whom."""

    def __init__(self) -> None:
        super().__init__(_Handler, "hub")
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.before: Callable[[str, str], int | str | None] = lambda method, path: None
        # Sizes that trees name wrongly, and names that no repository should have.
        self.lies: dict[str, int] = {}

    def add_commit(self, name: str, content: Mapping[str, bytes]) -> str:
        """Make the files of `models/org/name` or `datasets/org/name` be `content`."""
        repository = self.repositories.setdefault(name, Repository())
        text = f"{name} {len(repository.commits)} {sorted(content)}"
        commit = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        repository.commits[commit] = dict(content)
        return commit


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((self.command, path))
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        answer = self.hub.before(self.command, path)
        if answer == "cut":
            standins.cut_line(self)
        elif isinstance(answer, int):
            self._json({"error": f"status {answer} of the stand-in"}, answer)
        else:
            for pattern, work in ROUTES:
                if match := re.fullmatch(pattern, path):
                    work(self, body, *match.groups())
                    return
            self._missing("Entry")

    do_GET = do_HEAD = do_POST = do_PUT = _route

    def create(self, body: bytes) -> None:
        request = json.loads(body)
        name = f"{request.get('type', 'model')}s/{request['organization']}/{request['name']}"
        if name in self.hub.repositories:
            self._json({"error": "exists", "url": f"{self.hub.url}/{name}"}, 409)
            return
        self.hub.add_commit(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.hub.repositories[name].is_private = request.get("visibility") == "private"
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def check_card(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def describe(self, body: bytes, name: str, revision: str | None) -> None:
        if commit := self._commit(name, revision or "main"):
            names = [{"rfilename": path} for path in self._files(name, commit)]
            short = name.partition("/")[2]
            self._json({"id": short, "sha": commit, "siblings": names, "private": False})

    def list_tree(self, body: bytes, name: str, revision: str) -> None:
        if commit := self._commit(name, revision):
            entries: list[dict[str, Any]] = []
            for path, content in self._files(name, commit).items():
                size = self.hub.lies.get(path, len(content))
                entry = {"type": "file", "path": path, "size": size, "oid": _oid(content)}
                entries.append(entry)
            self._json(entries)

    def say_modes(self, body: bytes, name: str, revision: str) -> None:
        if not (commit := self._commit(name, revision)):
            return
        present = self._files(name, commit)
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(LARGE) else "regular"
            oid = None
            if path in present:
                content = present[path]
                oid = hashlib.sha256(content).hexdigest() if mode == "lfs" else _oid(content)
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def offer_uploads(self, body: bytes, name: str) -> None:
        objects = []
        for wanted in json.loads(body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.blobs:
                entry["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def take_upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._json({"error": "other bytes"}, 400)
            return
        self.hub.blobs[oid] = body
        self._json({})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        if not (head := self._commit(name, revision)):
            return
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit", head) != head:
            self._json({"error": "the parent is not the head"}, 412)
            return
        content = dict(self._files(name, head))
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                content[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                del content[value["path"]]
        commit = self.hub.add_commit(name, content)
        self.hub.repositories[name].messages.append(header)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._json({"commitUrl": url, "commitOid": commit, "pullRequestUrl": None})

    def send_model_file(self, body: bytes, name: str, revision: str, path: str) -> None:
        self.send_file(body, f"models/{name}", revision, path)

    def send_file(self, body: bytes, name: str, revision: str, path: str) -> None:
        if not (commit := self._commit(name, revision)):
            return
        content = self._files(name, commit).get(path)
        if content is None:
            self._missing("Entry")
            return
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:])

    def _commit(self, name: str, revision: str) -> str | None:
        """Return the commit of a revision; None when the request is answered with 404."""
        if name not in self.hub.repositories:
            self._missing("Repo")
            return None
        commit = self.hub.repositories[name].resolve(revision)
        if commit is None:
            self._missing("Revision")
        return commit

    def _files(self, name: str, commit: str) -> dict[str, bytes]:
        return self.hub.repositories[name].commits[commit]

    def _missing(self, what: str) -> None:
        self._json({"error": f"{what} not found"}, 404, {"X-Error-Code": f"{what}NotFound"})

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _oid(content: bytes) -> str:
    """Return git's own hash of a file."""
    text = b"blob %d\0" % len(content) + content
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()


NAME = "((?:models|datasets)/[^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    ("/api/repos/create", _Handler.create),
    ("/api/validate-yaml", _Handler.check_card),
    (f"/api/{NAME}(?:/revision/([^/]+))?", _Handler.describe),
    (f"/api/{NAME}/tree/([^/]+)", _Handler.list_tree),
    (f"/api/{NAME}/preupload/([^/]+)", _Handler.say_modes),
    (f"/api/{NAME}/commit/([^/]+)", _Handler.commit),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.offer_uploads),
    ("/lfs/([0-9a-f]{64})", _Handler.take_upload),
    ("/(datasets/[^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler.send_file),
    ("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler.send_model_file),
]
