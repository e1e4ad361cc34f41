"""Where packages are published: a folder, a bucket of an S3-compatible store, or the hub.

    place = places.open_place("s3://models/experts", endpoint=None)

In a folder and in a bucket a file lies under its hash, `files/SHA256`, and is never changed; a
package is `packages/RUN.json`, its listing, written in one step once all of them are there. A
repository of the hub is one package, and a commit is that step.
"""

import base64
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

from sem.core import files, jsonio, manifest, state
from sem.core.errors import SemError
from sem.core.net import hub
from sem.core.net.hub import HubAddress
from sem.core.state import FileEntry
from sem.package.contract import MAX_MANIFEST_BYTES
from sem.package.publish import listing as listings
from sem.package.publish.listing import Listing
from sem.package.verify.verify import MAX_SIGNATURE_BYTES, SIGNATURE

# S3 takes no more in one request.
MAX_SINGLE_PUT = 4 << 30
BLOCK_BYTES = 1 << 20
# As Amazon's own tools are told of another store.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
# A folder of what the hub's client keeps of a file, to go on after a cut.
BEGUN = ".tmp-hub-"
# Files of a package that its manifest does not list, and the most bytes of each.
UNLISTED = {manifest.NAME: MAX_MANIFEST_BYTES, SIGNATURE: MAX_SIGNATURE_BYTES}
AGAIN = "then run the same command again: what was sent is not sent twice"
_BUCKET = re.compile(r"s3:/{1,2}(?P<bucket>[a-z0-9][a-z0-9.-]{1,62})(?:/(?P<prefix>.*))?")


class Place(Protocol):
    """What publishing and fetching need of a place."""

    @property
    def address(self) -> str: ...

    def publish(self, listing: Listing, folder: Path) -> str:
        """Make the package in `folder` readable as a whole, and return its address."""

    def pin(self) -> "Place":
        """Return the place as it is now, where it can change while a package is fetched."""

    def read_listing(self, run_id: str | None) -> Listing:
        """Return the listing of the package of `run_id` (default: the newest)."""

    def read_file(self, name: str, entry: FileEntry, target: Path) -> None:
        """Write the file `name` to `target`; its hash is for the caller to check."""


def open_place(address: str, endpoint: str | None) -> Place:
    """Return the place that `address` names; `endpoint` is another store's than Amazon's."""
    if hub.is_address(address):
        named = hub.read_address(address)
        if named.kind != "model" or named.path:
            raise SemError(f"{address}: not a repository for a model", "write hf://ORG/NAME")
        return HubPlace(named)
    if address.startswith("s3:"):
        match = _BUCKET.fullmatch(address)
        if not match:
            raise SemError(f"{address}: not a bucket", "write s3://BUCKET or s3://BUCKET/PREFIX")
        named_by = (endpoint, *map(os.environ.get, ENDPOINTS))
        store = next((address for address in named_by if address), None)
        return StorePlace(S3Store(match["bucket"], (match["prefix"] or "").strip("/"), store))
    if "://" in address:
        raise SemError(
            f"{address}: not a place to publish to", "write a folder, s3://BUCKET or hf://ORG/NAME"
        )
    return StorePlace(FolderStore(Path(address)))


class ObjectStore(Protocol):
    """What StorePlace needs of a store of named objects; each write is whole or not at all."""

    @property
    def address(self) -> str: ...

    def list_keys(self, prefix: str) -> list[str]: ...

    def size_of(self, key: str) -> int | None: ...

    def write_bytes(self, key: str, content: bytes) -> None: ...

    def write_path(self, key: str, path: Path, digest: str) -> None: ...

    def open(self, key: str) -> Any:
        """Return a context manager of the object's blocks; None for one that is not there."""


@dataclass(frozen=True)
class StorePlace:
    """Packages in a store of objects."""

    store: ObjectStore

    @property
    def address(self) -> str:
        return self.store.address

    def publish(self, listing: Listing, folder: Path) -> str:
        """Write each file that is not there under its hash, then the listing."""
        for name, entry in sorted(listing.files.items()):
            key = f"files/{entry['sha256']}"
            if self.store.size_of(key) != entry["bytes"]:
                self.store.write_path(key, folder / name, entry["sha256"])
        self.store.write_bytes(f"packages/{listing.run_id}.json", listing.as_text().encode())
        return f"{self.address}/packages/{listing.run_id}.json"

    def pin(self) -> "StorePlace":
        return self

    def read_listing(self, run_id: str | None) -> Listing:
        """Return the listing of `run_id`, or of the newest run; its id begins with its time."""
        keys = self.store.list_keys("packages/")
        names = sorted(key[9:-5] for key in keys if re.fullmatch(r"packages/[^/]+\.json", key))
        if not names:
            raise SemError(f"{self.address}: no package", "publish one with `fab package.publish`")
        if run_id is not None and run_id not in names:
            raise SemError(f"{self.address}: no package of run {run_id!r}", f"one of: {names}")
        name = run_id or names[-1]
        where = f"{self.address}/packages/{name}.json"
        content = self._read_bytes(f"packages/{name}.json", listings.MAX_LISTING_BYTES, where)
        found = listings.parse_listing(content, where)
        if found.run_id != name:
            raise SemError(f"{where}: lists run {found.run_id}", "do not use it: publish it again")
        return found

    def read_file(self, name: str, entry: FileEntry, target: Path) -> None:
        """Write the object of that hash to `target`, and no byte more than its listed size."""
        where = f"{self.address}/files/{entry['sha256']}"
        with files.open_atomic_file(target) as file:
            self._copy(f"files/{entry['sha256']}", file, entry["bytes"], f"{where} ({name})")

    def _read_bytes(self, key: str, limit: int, where: str) -> bytes:
        content = io.BytesIO()
        self._copy(key, content, limit, where)
        return content.getvalue()

    def _copy(self, key: str, file: IO[bytes], limit: int, where: str) -> None:
        size = 0
        with self.store.open(key) as blocks:
            if blocks is None:
                raise SemError(f"{where}: not there", "publish it again")
            for block in blocks:
                size += len(block)
                if size > limit:
                    raise SemError(f"{where}: longer than its listing says", "do not use it")
                file.write(block)


@dataclass(frozen=True)
class FolderStore:
    """Objects as files of a folder, on this machine or mounted."""

    folder: Path

    @property
    def address(self) -> str:
        return str(self.folder)

    def list_keys(self, prefix: str) -> list[str]:
        return [f"{prefix}{path.name}" for path in (self.folder / prefix).glob("*")]

    def size_of(self, key: str) -> int | None:
        path = self.folder / key
        return path.stat().st_size if path.is_file() else None

    def write_bytes(self, key: str, content: bytes) -> None:
        files.write_file(self.folder / key, content)

    def write_path(self, key: str, path: Path, digest: str) -> None:
        copied = hashlib.sha256()
        with path.open("rb") as source, files.open_atomic_file(self.folder / key) as file:
            while block := source.read(BLOCK_BYTES):
                copied.update(block)
                file.write(block)
            # Before it takes its name, which is for ever.
            _expect_hash(copied.hexdigest(), digest, path)

    @contextmanager
    def open(self, key: str) -> Iterator[Iterator[bytes] | None]:
        path = self.folder / key
        if not path.is_file():
            yield None
            return
        with path.open("rb") as file:
            yield iter(lambda: file.read(BLOCK_BYTES), b"")


@dataclass(frozen=True)
class S3Store:
    """Objects of a bucket, by boto3: who asks, and where, is as in Amazon's own tools."""

    bucket: str
    prefix: str
    endpoint: str | None = None

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    def list_keys(self, prefix: str) -> list[str]:
        with self._client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._key(prefix)
            )
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        start = len(self._key(""))
        return [key[start:] for key in keys]

    def size_of(self, key: str) -> int | None:
        with self._client() as client:
            try:
                return int(
                    client.head_object(Bucket=self.bucket, Key=self._key(key))["ContentLength"]
                )
            except client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise

    def write_bytes(self, key: str, content: bytes) -> None:
        with self._client() as client:
            client.put_object(
                Bucket=self.bucket,
                Key=self._key(key),
                Body=content,
                ContentType="application/json",
            )

    def write_path(self, key: str, path: Path, digest: str) -> None:
        with self._client() as client, path.open("rb") as file:
            _expect_hash(files.sha256_file(path), digest, path)
            if path.stat().st_size > MAX_SINGLE_PUT:
                client.upload_file(str(path), self.bucket, self._key(key))
                return
            # The store itself refuses other bytes than those that were hashed here.
            sent = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
            file.seek(0)
            client.put_object(
                Bucket=self.bucket,
                Key=self._key(key),
                Body=file,
                ContentMD5=base64.b64encode(sent).decode(),
            )

    @contextmanager
    def open(self, key: str) -> Iterator[Iterator[bytes] | None]:
        with self._client() as client:
            try:
                reply = client.get_object(Bucket=self.bucket, Key=self._key(key))
            except client.exceptions.NoSuchKey:
                yield None
                return
            yield reply["Body"].iter_chunks(BLOCK_BYTES)

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @cached_property
    def _boto(self) -> Any:
        import boto3
        from botocore.config import Config

        # Of other stores many know no checksums of Amazon's newer kinds, nor buckets as hosts.
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "max_attempts": 4},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if self.endpoint else "auto"},
        )
        return boto3.Session().client("s3", endpoint_url=self.endpoint, config=config)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Yield a client of the bucket; whatever the store refuses is one clear line."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield self._boto
        # An endpoint that is no address is a ValueError.
        except (BotoCoreError, ClientError, S3UploadFailedError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise SemError(
                f"{self.address}: {reason}",
                f"check the bucket, its endpoint and your credentials, {AGAIN}",
            ) from error


def _expect_hash(own: str, digest: str, source: Path) -> None:
    if own != digest:
        raise SemError(f"{source}: changed while it was published", "verify it, and publish again")


@dataclass(frozen=True)
class HubPlace:
    """One package, as a repository of the hub; every revision of it is a package."""

    named: HubAddress

    @property
    def address(self) -> str:
        return str(self.named)

    def publish(self, listing: Listing, folder: Path) -> str:
        """Commit the files of the package, and remove others, in one step."""
        details = jsonio.canonical_json({"gate": listing.gate, "reason": listing.reason})
        with hub.open_hub(f"publish to {self.address}", f"{hub.HINT}, {AGAIN}") as api:
            made = hub.commit_folder(
                api,
                self.named,
                sorted(listing.files),
                folder,
                f"{listing.sem}: run {listing.run_id}",
                details,
            )
        return str(made)

    def pin(self) -> "HubPlace":
        """Return the repository at the commit that its revision is now."""
        with hub.open_hub(f"read {self.address}") as api:
            return HubPlace(hub.pin_address(api, self.named))

    def read_listing(self, run_id: str | None) -> Listing:
        """Return the listing of the repository, made of its manifest."""
        with (
            hub.open_hub(f"read {self.address}") as api,
            tempfile.TemporaryDirectory() as scratch,
        ):
            sizes = hub.list_repository_files(api, self.named)
            entries: dict[str, Any] = {}
            for name, limit in UNLISTED.items():
                if name not in sizes:
                    continue
                if sizes[name] > limit:
                    raise SemError(f"{self.address}: {name} is too large", "do not use it")
                path = hub.download_file(api, self.named, name, Path(scratch))
                digest = files.sha256_file(path)
                entries[name] = {"bytes": path.stat().st_size, "sha256": digest}
            if manifest.NAME not in entries:
                raise SemError(
                    f"{self.address}: holds no package", "publish one with `fab package.publish`"
                )
            facts = manifest.read_manifest(Path(scratch), state.PackageManifest)
        value = {
            **{"format": listings.FORMAT, "published_at": None, "gate": None, "reason": None},
            **{"sem": facts.get("sem"), "run_id": facts.get("run_id")},
            "files": facts["files"] | entries,
        }
        return self._checked(listings.check_listing(value, self.address), sizes, run_id)

    def _checked(self, found: Listing, sizes: Mapping[str, int], run_id: str | None) -> Listing:
        for name, entry in found.files.items():
            if sizes.get(name) != entry["bytes"]:
                raise SemError(
                    f"{self.address}: {name} is not of the size that the manifest says",
                    "do not use it: publish it again",
                )
        if run_id is not None and found.run_id != run_id:
            raise SemError(
                f"{self.address}: holds run {found.run_id}, not {run_id}",
                "name the revision of the other one, as hf://ORG/NAME@COMMIT",
            )
        return found

    def read_file(self, name: str, entry: FileEntry, target: Path) -> None:
        """Fetch the file `name`, and go on with what an earlier start began."""
        beside = target.with_name(f"{BEGUN}{entry['sha256'][:16]}")
        with hub.open_hub(f"fetch {name} of {self.address}", f"{hub.HINT}, {AGAIN}") as api:
            files.move_into_place(hub.download_file(api, self.named, name, beside), target)
        shutil.rmtree(beside)
