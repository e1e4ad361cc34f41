"""As much of S3's HTTP API as boto3 needs: PUT, GET, HEAD, DELETE, List v2, multipart uploads.

    with S3Server("models") as store:
        boto3.client("s3", endpoint_url=store.url)

`store.before` may answer a request itself, as (status, code), or cut the line with "cut".
"""

import base64
import hashlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import standins
from standins import StandIn

Answer = tuple[int, str] | str | None


class S3Server(StandIn):
    """A store on a free port; `objects` are its files by bucket/key, `asked` what was asked."""

    def __init__(self, *buckets: str) -> None:
        super().__init__(_Handler, "store")
        self.buckets = set(buckets)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.signed: list[str] = []
        # Keys in a page of a list.
        self.page = 1_000
        self.before: Callable[[str, str], Answer] = lambda method, key: None


class _Handler(BaseHTTPRequestHandler):
    store: S3Server
    protocol_version = "HTTP/1.1"

    def _begin(self) -> tuple[str, dict[str, list[str]], bytes] | None:
        """Return key, query and body; None when the request is answered."""
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.store.asked.append((self.command, key))
        self.store.signed.append(self.headers.get("Authorization", ""))
        answer = self.store.before(self.command, key)
        if answer == "cut":
            standins.cut_line(self)
            return None
        if isinstance(answer, tuple):
            self._fail(*answer)
            return None
        if key.split("/")[0] not in self.store.buckets:
            self._fail(404, "NoSuchBucket")
            return None
        return key, parse_qs(parts.query, keep_blank_values=True), body

    def do_PUT(self) -> None:
        if not (request := self._begin()):
            return
        key, query, body = request
        digest = hashlib.md5(body, usedforsecurity=False)
        sent = self.headers.get("Content-MD5")
        if sent and base64.b64decode(sent) != digest.digest():
            self._fail(400, "BadDigest")
            return
        if "uploadId" in query:
            self.store.parts[query["uploadId"][0]][int(query["partNumber"][0])] = body
        else:
            self.store.objects[key] = body
        self._reply(200, b"", ETag=f'"{digest.hexdigest()}"')

    def do_POST(self) -> None:
        if not (request := self._begin()):
            return
        key, query, _ = request
        if "uploads" in query:
            name = str(len(self.store.parts))
            self.store.parts[name] = {}
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")
            return
        parts = self.store.parts.pop(query["uploadId"][0])
        self.store.objects[key] = b"".join(parts[number] for number in sorted(parts))
        self._xml("CompleteMultipartUploadResult", '<ETag>"x"</ETag>')

    def do_GET(self) -> None:
        if not (request := self._begin()):
            return
        key, query, _ = request
        if "list-type" in query:
            self._list(key.split("/")[0], query)
        elif key not in self.store.objects:
            self._fail(404, "NoSuchKey")
        else:
            content = self.store.objects[key]
            etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self._reply(200, content, ETag=f'"{etag}"')

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        if self._begin():
            self._reply(204, b"")

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, after = query["prefix"][0], query.get("continuation-token", [""])[0]
        keys = sorted(
            key.removeprefix(f"{bucket}/")
            for key in self.store.objects
            if key.startswith(f"{bucket}/{prefix}")
        )
        rest = [key for key in keys if key > after]
        page = rest[: self.store.page]
        is_cut = len(page) < len(rest)
        entries = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in page)
        cut = f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>"
        if is_cut:
            cut += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        self._xml("ListBucketResult", entries + cut)

    def _xml(self, name: str, inner: str) -> None:
        self._reply(200, f"<{name}>{inner}</{name}>".encode(), **{"Content-Type": "text/xml"})

    def _fail(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{code} of the stand-in</Message></Error>"
        self._reply(status, body.encode(), **{"Content-Type": "text/xml"})

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
